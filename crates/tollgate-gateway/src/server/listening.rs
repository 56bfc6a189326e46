//! How the program listens: addresses, limits, TLS.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tollgate_gateway::{
    config::Config,
    serve::{CertificateFiles, ForwardedDepth, Listener, ServeOptions, ServerTls, TrustedProxies},
    tls::TlsRules,
};

pub(super) fn serve_options(config: &Config) -> anyhow::Result<ServeOptions> {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let or_default = |given: Duration, default| if given.is_zero() { default } else { given };
    let defaults = ServeOptions::default();
    let http = &config.http_server_options;
    let depth = usize::try_from(http.xff_depth).unwrap_or_default();
    let proxies = trusted_proxies(config)?;
    let proxies = match depth {
        0 => proxies,
        depth => proxies.with_depth(ForwardedDepth::FromRight(depth)),
    };
    Ok(ServeOptions {
        proxies,
        http2_in_clear: http.enable_http2 != Some(false),
        body_idle_timeout: or_default(seconds(http.read_timeout), defaults.body_idle_timeout),
        most_body: match u64::try_from(http.max_request_body_size) {
            Ok(most) if most > 0 => most,
            _ => defaults.most_body,
        },
        write_timeout: or_default(seconds(http.write_timeout), defaults.write_timeout),
        ..defaults
    })
}

/// Whom the configuration believes when it names a client: this machine, where it says nothing.
fn trusted_proxies(config: &Config) -> anyhow::Result<TrustedProxies> {
    let Some(proxies) = &config.tollgate.trusted_proxies else {
        return Ok(TrustedProxies::loopback());
    };
    let network = |text: &String| {
        let address = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        address
            .or_else(|_| text.parse())
            .with_context(|| format!("tollgate.trusted_proxies: {text}"))
    };
    let networks: Vec<_> = proxies.iter().map(network).collect::<anyhow::Result<_>>()?;
    Ok(TrustedProxies::new(networks))
}

pub(super) async fn listen(
    config: &Config,
    port: u16,
    tls: Option<&Tls>,
) -> anyhow::Result<Listener> {
    let address = config.listen_ip();
    let address = address.with_context(|| format!("listen_address: {}", config.listen_address))?;
    let address = SocketAddr::new(address, port);
    let listener = Listener::bind(address)
        .await
        .with_context(|| format!("{address}"))?;
    Ok(match tls {
        Some(tls) => listener.with_tls(tls.server.clone()),
        None => listener,
    })
}

/// TLS for clients, and where its certificates come from.
pub(super) struct Tls {
    server: ServerTls,
    files: Vec<CertificateFiles>,
}

impl Tls {
    /// What the configuration says; none where clients speak without.
    pub(super) fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let http = &config.http_server_options;
        if !http.use_ssl {
            return Ok(None);
        }
        let by_host = http.certificates.iter().map(|file| CertificateFiles {
            host: Some(file.domain_name.clone()).filter(|host| !host.is_empty()),
            certificates: file.cert_file.clone().into(),
            key: file.key_file.clone().into(),
        });
        let whole = http.ssl_certificates.iter().map(|file| CertificateFiles {
            host: None,
            certificates: file.into(),
            key: file.into(),
        });
        let files: Vec<_> = by_host.chain(whole).collect();
        let rules = TlsRules::new(http.min_version, http.max_version, &http.ssl_ciphers)?;
        let server = ServerTls::from_files(&files, &rules)?;
        let server = match http.enable_http2 {
            Some(true) => server,
            Some(false) | None => server.without_http2(), // As in Tyk.
        };
        Ok(Some(Self { server, files }))
    }

    /// Reads the certificates anew; those that were served stay where they can not be.
    pub(super) fn reload(&self) {
        match self.server.replace(&self.files) {
            Ok(()) => tracing::info!("certificates read anew"),
            Err(err) => {
                let err = anyhow::Error::from(err);
                tracing::error!("the old certificates stay: {err:#}");
            }
        }
    }
}
