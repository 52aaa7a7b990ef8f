//! Certificates for servers that speak TLS.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A server's certificate and key in PEM, and the certificate of the authority that signed it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The server's certificate, to be followed by no other: the authority is a root.
    pub certificate: String,
    /// The server's key, PKCS#8.
    pub key: String,
    /// What a client must trust: the content of a `ca_file`.
    pub ca: String,
}

impl Identity {
    /// A fresh authority and a certificate for `names` (DNS names or IP addresses).
    pub fn new(names: &[&str]) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With the same name, OpenSSL would take the server's certificate for its own issuer.
        ca.distinguished_name
            .push(DnType::CommonName, "testkit authority");
        let ca_key = KeyPair::generate().expect("cannot make a key");
        let ca = CertifiedIssuer::self_signed(ca, ca_key).expect("cannot make an authority");

        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let params = CertificateParams::new(names).expect("not a name or address");
        let key = KeyPair::generate().expect("cannot make a key");
        let certificate = params.signed_by(&key, &ca).expect("cannot sign");
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            ca: ca.pem(),
        }
    }

    /// Writes the three as PEM files into a directory.
    pub fn save(&self, dir: &Path) -> io::Result<Files> {
        std::fs::create_dir_all(dir)?;
        let save = |name: &str, content: &str| {
            let path = dir.join(name);
            std::fs::write(&path, content).map(|()| path)
        };
        Ok(Files {
            certificate: save("server.crt", &self.certificate)?,
            key: save("server.key", &self.key)?,
            ca: save("ca.crt", &self.ca)?,
        })
    }
}

/// Where an [`Identity`] lies.
#[derive(Debug, Clone)]
pub struct Files {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// The authority's certificate.
    pub ca: PathBuf,
}
