//! A certificate and its key, as text.

/// What sprig's `gen…Cert` give: `.Cert` and `.Key`, in PEM.
pub(crate) struct Certificate {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Certificate {
    pub(crate) fn field(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"Cert" => Some(self.cert.as_bytes()),
            b"Key" => Some(self.key.as_bytes()),
            _ => None,
        }
    }

    pub(crate) fn print(&self, out: &mut Vec<u8>) {
        let Self { cert, key } = self;
        out.extend_from_slice(format!("{{{cert} {key}}}").as_bytes());
    }
}
