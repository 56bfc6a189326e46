//! Functions that take long: hashes of passwords, keys, certificates. They are there only where the
//! template's options ask for them.
//!
//! Keys are made on elliptic curves alone: where sprig makes one of RSA or DSA by itself, this makes one on
//! P-256.

use std::{net::IpAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};
use sha2::Sha256;

use super::{Answer, int_of, str_of, text_of};
use crate::{certificate::Certificate, error::Fault, render::Render, value::Value};

/// What one call costs of the steps.
const COST: usize = 10_000;

/// `$2a$10$…`, or what is wrong.
pub(super) fn bcrypt<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let hash = hashed(render, given[0])?;
    render.heap.str(hash)
}

fn hashed<'r>(render: &mut Render<'r>, password: Value<'r>) -> Result<String, Fault> {
    render.step(COST)?;
    let password = text_of(password);
    if password.len() > 72 {
        let message =
            "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes";
        return Ok(message.into());
    }
    let parts = bcrypt::hash_with_result(password, 10);
    let parts = parts.map_err(|_| Fault::new("the password can not be hashed"))?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

pub(super) fn htpasswd<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let name = str_of(given[0]);
    if name.contains(':') {
        return render.heap.str(format!("invalid username: {name}"));
    }
    let hash = hashed(render, given[1])?;
    render.heap.str(format!("{name}:{hash}"))
}

const SEED: &[u8] = b"com.lyndir.masterpassword";

fn templates(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "maximum" => &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"],
        "long" => &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
        "medium" => &["CvcnoCvc", "CvcCvcno"],
        "short" => &["Cvcn"],
        "basic" => &["aaanaaan", "aannaaan", "aaannaaa"],
        "pin" => &["nnnn"],
        _ => return None,
    })
}

fn characters(class: u8) -> &'static [u8] {
    match class {
        b'V' => b"AEIOU",
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'A' => b"AEIOUBCDFGHJKLMNPQRSTVWXYZ",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

/// The algorithm of Master Password.
pub(super) fn derive_password<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let kind = str_of(given[1]);
    let Some(templates) = templates(&kind) else {
        return render
            .heap
            .str(format!("cannot find password template {kind}"));
    };
    render.step(COST)?;
    let (password, user, site) = (text_of(given[2]), text_of(given[3]), text_of(given[4]));
    let failed = |_| Fault::new("the password can not be derived");
    let counter =
        u32::try_from(int_of(given[0])).map_err(|_| Fault::new("the counter is too large"))?;
    let length = |text: &[u8]| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let salt = [SEED, &length(user), user].concat();
    let parameters = scrypt::Params::new(15, 8, 2, 64).map_err(failed)?;
    let mut key = [0; 64];
    scrypt::scrypt(password, &salt, &parameters, &mut key)
        .map_err(|_| Fault::new("the password can not be derived"))?;
    let text = [SEED, &length(site), site, &counter.to_be_bytes()].concat();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)
        .map_err(|_| Fault::new("the password can not be derived"))?;
    mac.update(&text);
    let seed = mac.finalize().into_bytes();
    let template = templates[usize::from(seed[0]) % templates.len()];
    let chars = template.bytes().zip(&seed[1..]).map(|(class, seed)| {
        let characters = characters(class);
        characters[usize::from(*seed) % characters.len()]
    });
    render.heap.str(chars.collect::<Vec<_>>())
}

/// What stands before the key itself in PKCS #8, for a key on P-256 as it is made here.
const P256_HEAD: [u8; 29] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
    0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d,
];

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = &*text;
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = behind;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// A key in the form that Go's tools write: that of its curve where there is one.
fn key_text(key: &KeyPair) -> String {
    match key.serialize_der().strip_prefix(&P256_HEAD) {
        Some(own) => pem("EC PRIVATE KEY", own),
        None => key.serialize_pem(),
    }
}

fn made<T, E>(made: Result<T, E>, what: &str) -> Result<T, Fault> {
    made.map_err(|_| Fault::new(format!("{what} can not be made")))
}

pub(super) fn private_key<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    render.step(COST)?;
    let kind = str_of(given[0]);
    let algorithm = match &*kind {
        "ed25519" => &PKCS_ED25519,
        "ecdsa" => &PKCS_ECDSA_P256_SHA256,
        "" | "rsa" | "dsa" => {
            return Err(Fault::new(
                "keys of RSA and DSA are not made; \"ecdsa\" and \"ed25519\" are",
            ));
        }
        kind => return render.heap.str(format!("Unknown type {kind}")),
    };
    let key = made(KeyPair::generate_for(algorithm), "the key")?;
    render.heap.str(key_text(&key))
}

/// The key that a text has.
fn read_key(text: &str) -> Result<KeyPair, Fault> {
    let failed = || Fault::new("parsing private key: it can not be read");
    if let Ok(key) = KeyPair::from_pem(text) {
        return Ok(key);
    }
    let lines = text.lines().filter(|line| !line.starts_with('-'));
    let own = STANDARD
        .decode(lines.collect::<String>())
        .map_err(|_| failed())?;
    let der = [&P256_HEAD[..], &own].concat();
    KeyPair::try_from(der).map_err(|_| failed())
}

/// The key that was given, or a new one.
fn key_of(given: Option<&Value<'_>>) -> Result<KeyPair, Fault> {
    match given {
        Some(text) => read_key(&str_of(*text)),
        None => made(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256), "the key"),
    }
}

fn parameters(name: &str, days: i64) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let now = std::time::SystemTime::now();
    let days = u64::try_from(days.clamp(0, 36_500)).unwrap_or(0);
    parameters.not_before = now.into();
    parameters.not_after = (now + Duration::from_secs(days * 86_400)).into();
    parameters
}

/// Addresses and names that a certificate is for besides.
fn names<'r>(
    parameters: &mut CertificateParams,
    addresses: Value<'r>,
    names: Value<'r>,
) -> Result<(), Fault> {
    let texts = |value| {
        crate::render::list_of(value)
            .into_iter()
            .flat_map(|list| list.iter())
    };
    for address in texts(addresses) {
        let address = str_of(address).parse::<IpAddr>();
        let address = address.map_err(|_| Fault::new("error parsing ip"))?;
        parameters
            .subject_alt_names
            .push(SanType::IpAddress(address));
    }
    for name in texts(names) {
        let name = str_of(name).into_owned().try_into();
        let name = name.map_err(|_| Fault::new("error processing alternate dns name"))?;
        parameters.subject_alt_names.push(SanType::DnsName(name));
    }
    Ok(())
}

pub(super) fn authority<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    render.step(COST)?;
    let key = key_of(given.get(2))?;
    let mut parameters = parameters(&str_of(given[0]), int_of(given[1]));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let certificate = made(parameters.self_signed(&key), "the certificate")?;
    answer(render, certificate.pem(), key_text(&key))
}

pub(super) fn self_signed<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    render.step(COST)?;
    let key = key_of(given.get(4))?;
    let mut parameters = parameters(&str_of(given[0]), int_of(given[3]));
    names(&mut parameters, given[1], given[2])?;
    let certificate = made(parameters.self_signed(&key), "the certificate")?;
    answer(render, certificate.pem(), key_text(&key))
}

pub(super) fn signed<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    render.step(COST)?;
    let Value::Certificate(authority) = given[4] else {
        return Err(Fault::new("there is no certificate of an authority"));
    };
    let key = key_of(given.get(5))?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, read_key(&authority.key)?);
    let issuer = issuer.map_err(|_| Fault::new("unable to decode certificate"))?;
    let mut parameters = parameters(&str_of(given[0]), int_of(given[3]));
    names(&mut parameters, given[1], given[2])?;
    let certificate = made(parameters.signed_by(&key, &issuer), "the certificate")?;
    answer(render, certificate.pem(), key_text(&key))
}

/// A certificate and a key that the template brings, in base64 of their PEM.
pub(super) fn custom<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    render.step(COST)?;
    let decoded = |value: Value<'r>, what: &str| {
        let bytes = STANDARD.decode(text_of(value)).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| Fault::new(format!("unable to decode base64 {what}")))
    };
    let cert = decoded(given[0], "certificate")?;
    let key = decoded(given[1], "private key")?;
    let issuer = Issuer::from_ca_cert_pem(&cert, read_key(&key)?);
    issuer.map_err(|_| Fault::new("unable to decode certificate"))?;
    answer(render, cert, key)
}

fn answer<'r>(render: &Render<'r>, cert: String, key: String) -> Answer<'r> {
    render.heap.charge(cert.len() + key.len())?;
    Ok(render.heap.certificate(Certificate { cert, key }))
}
