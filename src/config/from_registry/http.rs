//! `http`, made into the `listen` and `upstream` sections.

use super::document::Document;
use super::tree::Tree;
use super::{Notes, Source};
use crate::config::pem;
use openssl::x509::X509;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use url::Url;

/// Ports to listen on, the first that the registry leaves.
const PORTS: [u16; 3] = [5000, 5080, 5081];
const ADMIN_PORTS: [u16; 3] = [9090, 9091, 9092];

pub fn listen_and_upstream(
    tree: &Tree,
    source: &Source,
    document: &mut Document,
    notes: &mut Notes,
) {
    refuse_what_cannot_be_reached(tree, notes);
    let secure = tree.text("http.tls.certificate").is_some()
        || ["cachefile", "email"]
            .iter()
            .any(|key| tree.text(&format!("http.tls.letsencrypt.{key}")).is_some());
    let taken = taken(tree, source);
    listen(tree, source, &taken, document, notes);
    upstream(tree, source, secure, document, notes);
    if let Some(port) = free(&ADMIN_PORTS, &taken).filter(|port| *port != ADMIN_PORTS[0]) {
        document.section(
            "admin",
            "Metrics and health. The registry has the usual port.",
        );
        document.quoted(1, "address", SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if let Some(host) = tree.text("http.host") {
        notes.warn(format!(
            "http.host: the registry sends clients to {} for each upload, whatever \
             http.relativeurls says; that must be blobgate's address, or the setting must go",
            without_user(&host)
        ));
    }
}

fn refuse_what_cannot_be_reached(tree: &Tree, notes: &mut Notes) {
    if tree.text("http.prefix").is_some_and(|prefix| prefix != "/") {
        notes.refuse(
            "http.prefix",
            "the registry lies below a path, and blobgate knows `/v2/` only",
            "remove the prefix",
        );
    }
    if tree.has_entries("http.tls.clientcas") {
        notes.refuse(
            "http.tls.clientcas",
            "the registry asks for a client's certificate, and blobgate has none to show",
            "let blobgate in without, for example by an address of its own on the loopback",
        );
    }
}

/// The address and its port, where it is one of TCP.
fn address(tree: &Tree) -> Option<(String, u16)> {
    if tree
        .text("http.net")
        .is_some_and(|net| !net.starts_with("tcp"))
    {
        return None;
    }
    let addr = tree.text("http.addr")?;
    let (host, port) = addr.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']).to_owned();
    Some((host, port.parse().ok().filter(|port| *port != 0)?))
}

/// Ports on this machine that blobgate must leave alone.
fn taken(tree: &Tree, source: &Source) -> Vec<u16> {
    match &source.upstream {
        Some(url) => {
            let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            url.port_or_known_default()
                .filter(|_| local)
                .into_iter()
                .collect()
        }
        None => {
            let debug = tree.text("http.debug.addr");
            let debug = debug.and_then(|addr| addr.rsplit_once(':')?.1.parse().ok());
            address(tree)
                .map(|(_, port)| port)
                .into_iter()
                .chain(debug)
                .collect()
        }
    }
}

fn free(ports: &[u16], taken: &[u16]) -> Option<u16> {
    ports.iter().copied().find(|port| !taken.contains(port))
}

fn listen(tree: &Tree, source: &Source, taken: &[u16], document: &mut Document, notes: &mut Notes) {
    document.section("listen", "Where clients connect.");
    // Two taken ports leave one of three.
    let port = free(&PORTS, taken).unwrap_or(PORTS[0]);
    let address = source
        .listen
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    if source.listen.is_none() && port != PORTS[0] {
        document.remark(
            1,
            "The registry has port 5000. To take its place, move it to another port, and write \
             that in upstream.url and 5000 here.",
        );
    }
    document.quoted(1, "address", address);
    let pair = (tree.text("http.tls.certificate"), tree.text("http.tls.key"));
    let (Some(certificate), Some(key)) = pair else {
        if tree.text("http.tls.letsencrypt.cachefile").is_some() {
            notes.warn(
                "http.tls.letsencrypt: blobgate obtains no certificates; give it one in listen.tls \
                 if clients are to go on with https",
            );
        }
        return;
    };
    let (certificate, key) = (PathBuf::from(certificate), PathBuf::from(key));
    let usable = pem::belong_together(&certificate, &key) == Ok(true);
    let about = "The registry's own certificate, so that clients go on with https.";
    if usable {
        document.subsection("tls", about);
        document.quoted(2, "certificate", certificate.display());
        document.quoted(2, "key", key.display());
    } else {
        notes.warn(
            "http.tls: certificate and key cannot be read from here; for clients to go on with \
             https, name them in listen.tls, readable by blobgate's user",
        );
        document.remark(1, about);
        document.example(1, "tls", "");
        document.example(2, "certificate", "/etc/blobgate/tls.crt");
        document.example(2, "key", "/etc/blobgate/tls.key");
    }
}

fn upstream(
    tree: &Tree,
    source: &Source,
    secure: bool,
    document: &mut Document,
    notes: &mut Notes,
) {
    document.section("upstream", "The registry behind blobgate, from http.addr.");
    if let Some(url) = &source.upstream {
        document.quoted(1, "url", url.as_str().trim_end_matches('/'));
        return;
    }
    let Some((host, port)) = address(tree) else {
        notes.refuse(
            "http.addr",
            "it does not say at which host and port the registry can be reached",
            "say so by --upstream, such as --upstream http://127.0.0.1:5001",
        );
        return;
    };
    let host = match host.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() => ip.to_string(),
        Err(_) if !host.is_empty() => host,
        // On all addresses: the nearest is this machine's own.
        _ => Ipv4Addr::LOCALHOST.to_string(),
    };
    let host = match secure {
        true => covered(host, tree, notes),
        false => host,
    };
    let shown = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let scheme = if secure { "https" } else { "http" };
    document.quoted(1, "url", format!("{scheme}://{shown}:{port}"));
    if secure {
        document.remark(
            1,
            "The authority that issued its certificate, unless the system knows it:",
        );
        document.example(1, "ca_file", "/etc/blobgate/registry-ca.crt");
    }
}

/// A host that the registry's certificate covers: the given one, `localhost`, or the first there is.
fn covered(host: String, tree: &Tree, notes: &mut Notes) -> String {
    let path = tree.text("http.tls.certificate").unwrap_or_default();
    let Some(certificate) = first_certificate(Path::new(&path)) else {
        notes.warn(format!(
            "http.tls: the certificate cannot be read from here; see that it covers {host}, or \
             write a host that it covers in upstream.url"
        ));
        return host;
    };
    let names = certificate.subject_alt_names();
    let names: Vec<String> = names
        .iter()
        .flatten()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some([a, b, c, d])) => Some(Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            (None, _) => None,
        })
        .collect();
    if names.contains(&host) {
        return host;
    }
    let local = names.iter().find(|name| *name == "localhost");
    let Some(found) = local.or_else(|| names.iter().find(|name| !name.starts_with('*'))) else {
        notes.warn(format!(
            "http.tls: the certificate does not cover {host}; write a host that it covers in \
             upstream.url, one that leads to the registry itself"
        ));
        return host;
    };
    if local.is_none() {
        notes.warn(format!(
            "http.tls: upstream.url has the certificate's name {found}; see that it leads to the \
             registry itself from here, not to blobgate (for example by /etc/hosts)"
        ));
    }
    found.clone()
}

fn first_certificate(path: &Path) -> Option<X509> {
    pem::certificates(path).ok()?.into_iter().next()
}

/// A URL without what may be a password.
fn without_user(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => {
            let port = url.port().map(|port| format!(":{port}"));
            format!(
                "{}{}",
                url.host_str().unwrap_or_default(),
                port.unwrap_or_default()
            )
        }
        Err(_) => "an address that is no URL".to_owned(),
    }
}
