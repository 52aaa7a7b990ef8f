//! Name lookup: the system's, and `localhost` with all names below it.

use futures::future::{BoxFuture, FutureExt};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use tower_service::Service;

/// A bucket of a store on this machine has a name like `registry.localhost`, which glibc knows only
/// with `nss-myhostname` and would else ask a name server for. It is always this machine:
/// <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
}

impl Resolver {
    pub fn new() -> Self {
        Self {
            system: GaiResolver::new(),
        }
    }
}

/// Every address of a host: a name, or an address itself, without brackets.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.parse().map_err(io::Error::other)?;
    let found = Resolver::new().call(name).await?;
    Ok(found.map(|a| SocketAddr::new(a.ip(), port)).collect())
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        if is_below_localhost(name.as_str()) {
            // The port is the caller's to fill in.
            let loopback = vec![
                SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ];
            return futures::future::ready(Ok(loopback.into_iter())).boxed();
        }
        let found = self.system.call(name);
        async move { Ok(found.await?.collect::<Vec<_>>().into_iter()) }.boxed()
    }
}

/// `localhost` itself is left to the system, which may know of one address family only.
fn is_below_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let dot = name.len().checked_sub(".localhost".len());
    dot.and_then(|at| name.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
}

#[cfg(test)]
mod tests {
    use super::is_below_localhost;

    #[test]
    fn only_names_below_localhost_are_this_machine() {
        for (name, expected) in [
            ("registry.localhost", true),
            ("a.b.LOCALHOST.", true),
            ("localhost", false),
            ("notlocalhost", false),
            ("localhost.example", false),
            ("registry.localhost.example", false),
            ("é.example", false),
        ] {
            assert_eq!(is_below_localhost(name), expected, "{name}");
        }
    }
}
