//! Certificates for servers that speak TLS.

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
}
