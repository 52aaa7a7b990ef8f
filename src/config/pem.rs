//! Checks of the PEM files the configuration names, so that a wrong one is found at start-up and
//! not at the first handshake.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use std::fs;
use std::path::Path;

/// The certificates in a file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<X509>, String> {
    let pem = read(path)?;
    match X509::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("the file holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)".to_owned()),
    }
}

pub(super) fn private_key(path: &Path) -> Result<PKey<Private>, String> {
    let pem = read(path)?;
    // Without a callback OpenSSL would stop and ask the terminal for an encrypted key's password.
    PKey::private_key_from_pem_callback(&pem, |_| Ok(0)).map_err(|_| {
        "the file holds no PEM private key without a password (`-----BEGIN PRIVATE KEY-----`)"
            .to_owned()
    })
}

/// Whether the key belongs to the file's first certificate, the server's own.
pub(super) fn belong_together(certificate: &Path, key: &Path) -> Result<bool, String> {
    let certificates = certificates(certificate)?;
    let key = private_key(key)?;
    let own = certificates.first().and_then(|own| own.public_key().ok());
    Ok(own.is_some_and(|own| own.public_eq(&key)))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("the file cannot be read: {error}"))
}
