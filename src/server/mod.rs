//! The wiring, in the order data flows, and the process's life from bind to exit.

mod accept;
mod ending;
mod handover;
mod signals;
mod sockets;

use crate::admin::Admin;
use crate::config::Config;
use crate::health::{Checks, Health};
use crate::metrics::Metrics;
use crate::net;
use crate::proxy::{
    AccessLog, Counting, Door, Forwarding, ForwardingError, Gate, Patience, Pushes, Timing,
};
use crate::store::s3::{self, S3Store};
use crate::store::{BlobStore, Layout, UploadLister, sweep};
use crate::upload::{Aborter, Admission, Limits, Pace, Uploader};
use crate::upstream::Upstream;
use accept::{Acceptor, Bounds};
use ending::{Listening, Running};
use handover::Predecessor;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::tls::ssl::{AlpnError, SslAcceptor, SslFiletype, SslMethod, select_next_proto};
use signals::Signals;
use sockets::{Socket, Sockets};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a successor waits for its predecessor to be told to hand over.
const TAKEOVER: Duration = Duration::from_secs(60);

/// Scrapes, health checks and people looking, at once.
const ADMIN_CONNECTIONS: usize = 256;

/// Why blobgate could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        key: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error(
        "no listeners were handed over at {path} ({source}); is the running process's \
         upgrade_socket the same, and was it sent SIGQUIT?",
        path = .path.display()
    )]
    TakeOver { path: PathBuf, source: io::Error },
    #[error("--upgrade needs upgrade_socket in the configuration: the path at which to meet")]
    NoUpgradeSocket,
    #[error("cannot use the certificate and key of listen.tls: {0}")]
    Tls(String),
    #[error("cannot set up the connection to the bucket: {0}")]
    Store(#[from] s3::SetupError),
    #[error("cannot set up the connection to the upstream: {0}")]
    Upstream(#[from] net::SetupError),
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    #[error("cannot register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

/// Where the listening sockets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Fresh,
    /// From the running process, which is sent SIGQUIT.
    Upgrade,
}

/// Runs blobgate until it is told to stop.
///
/// # Errors
/// When it cannot start; once it serves, nothing but a signal ends it.
pub fn run(config: Config, start: Start) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .thread_name("blobgate")
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(serve(config, start));
    // What still runs has been given its time.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, start: Start) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Runtime)?;
    let (mut sockets, predecessor) = match (start, &config.upgrade_socket) {
        (Start::Fresh, _) => (Sockets::default(), None),
        (Start::Upgrade, Some(path)) => tokio::select! {
            taken = take_over(path) => taken.map(|(sockets, from)| (sockets, Some(from)))?,
            _ = signals.next() => return Ok(()),
        },
        (Start::Upgrade, None) => return Err(RunError::NoUpgradeSocket),
    };
    // Ports first: one that is taken should be said before anything else is tried.
    let front = sockets.claim("listen.address", config.listen.address)?;
    let back = config
        .admin
        .address
        .map(|address| sockets.claim("admin.address", address))
        .transpose()?;
    sockets.close_unclaimed();

    let metrics = Arc::new(Metrics::new(prometheus::default_registry())?);
    let s3 = Arc::new(S3Store::new(&config.bucket, Arc::clone(&metrics) as _)?);
    let store: Arc<dyn BlobStore> = Arc::clone(&s3) as _;
    let admission = Arc::new(Admission::new(
        config.upload.max_streaming,
        config.upload.memory_budget,
        config.upload.admission_timeout,
    ));
    let aborter = Aborter::new(Arc::clone(&store), Arc::clone(&metrics));
    let uploader = Uploader::new(
        Arc::clone(&store),
        Arc::clone(&admission),
        aborter.clone(),
        Limits {
            part_size: config.upload.part_size,
            max_blob_size: config.upload.max_blob_size,
            part_concurrency: (
                config.upload.part_concurrency,
                config.upload.max_part_concurrency,
            ),
        },
    );
    let forwarding = Arc::new(Forwarding::new(
        &config.upstream,
        config.listen.trust_forwarded,
    )?);
    let stop = CancellationToken::new();
    let draining = CancellationToken::new();
    let (connections, requests, pushes) =
        (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
    let access = AccessLog {
        format: config.log.format,
    };
    let upstream = Upstream::new(&config.upstream)?;
    let health = Arc::new(Health::new(
        config.admin.check_interval.is_some(),
        draining.clone(),
    ));
    let gate = Gate {
        pushes: Pushes {
            store: Arc::clone(&store),
            uploader,
            upstream: upstream.clone(),
            forwarding: Arc::clone(&forwarding),
            metrics: Arc::clone(&metrics),
            access,
            pace: Pace {
                idle_timeout: config.upload.idle_timeout,
                min_rate: config.upload.min_rate,
                min_rate_window: config.upload.min_rate_window,
            },
            question_timeout: config.upstream.probe_timeout,
            stop: stop.clone(),
            draining: draining.clone(),
            under_way: pushes.clone(),
        },
        forwarding,
        metrics: Arc::clone(&metrics),
        access,
        timing: Timing {
            keepalive: config.listen.keepalive_timeout,
            idle: config.upstream.idle_timeout,
        },
        requests: requests.clone(),
        draining: draining.clone(),
    };
    let conf = ServerConf {
        threads: config.threads,
        ..ServerConf::default()
    };
    let door = Door::new(
        http_proxy(&Arc::new(conf), gate),
        Patience {
            header: config.listen.header_timeout,
            keepalive: config.listen.keepalive_timeout,
        },
        config.listen.http2_memory,
        Counting {
            requests: requests.clone(),
            draining: draining.clone(),
        },
    );

    let scheme = if config.listen.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let tls = config.listen.tls.as_ref().map(tls_acceptor).transpose()?;
    let front_address = front.address;
    let acceptor = Acceptor {
        name: "listen.address",
        app: Arc::new(door),
        tls,
        bounds: Bounds {
            max_connections: config.listen.max_connections,
            handshake: config.listen.header_timeout,
            connections: connections.clone(),
        },
    };
    let listener = front.listener().map_err(RunError::Runtime)?;
    let front = Listening::start(|watch| acceptor.run(listener, watch));
    log::info!("listening on {scheme}://{front_address}");
    let serve_admin = |socket: Socket| {
        let address = socket.address;
        let admin = Admin {
            metrics: Arc::clone(&metrics),
            admission: Arc::clone(&admission),
            health: Arc::clone(&health),
        };
        let acceptor = Acceptor {
            name: "admin.address",
            app: Arc::new(admin),
            tls: None,
            bounds: Bounds {
                max_connections: ADMIN_CONNECTIONS,
                handshake: config.listen.header_timeout,
                connections: TaskTracker::new(),
            },
        };
        let listener = socket.listener().map_err(RunError::Runtime)?;
        let back = Listening::start(|watch| acceptor.run(listener, watch));
        log::info!("admin listening on http://{address}");
        Ok::<_, RunError>(back)
    };
    let back = back.map(serve_admin).transpose()?;
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.release().await
    {
        log::warn!("the predecessor cannot be told that it is succeeded, and may go on: {error}");
    }
    match config.admin.check_interval {
        Some(interval) => {
            let checks = Checks {
                upstream,
                store,
                interval,
                timeout: config.upstream.probe_timeout,
            };
            let health = Arc::clone(&health);
            tokio::spawn(async move { health.watch(checks).await });
        }
        None => {
            tokio::spawn(check_bucket(store));
        }
    }
    tokio::spawn(sweep_bucket(config.clone(), s3, metrics, draining.clone()));

    let running = Running {
        sockets,
        front,
        back,
        draining,
        connections,
        requests,
        pushes,
        stop,
        admission,
        aborter,
    };
    let told = running
        .until_told(
            &mut signals,
            config.grace_period,
            config.upgrade_socket.as_deref(),
        )
        .await;
    running.end(told, &mut signals).await;
    log::info!("stopped");
    Ok(())
}

async fn take_over(path: &Path) -> Result<(Sockets, Predecessor), RunError> {
    log::info!(
        "waiting up to {TAKEOVER:?} at {} for the running process to hand over its listeners: \
         send it SIGQUIT",
        path.display()
    );
    let taken = handover::take(path, TAKEOVER).await;
    taken
        .and_then(|(listeners, predecessor)| Ok((Sockets::taken_over(listeners)?, predecessor)))
        .map_err(|source| RunError::TakeOver {
            path: path.to_owned(),
            source,
        })
}

/// Removes, again and again, what killed processes left open. Ends with the drain: a successor
/// sweeps in its own right.
async fn sweep_bucket(
    config: Config,
    store: Arc<S3Store>,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
) {
    let layout = Layout::new(config.bucket.layout, &config.bucket.root_directory);
    let lister: &dyn UploadLister = &*store;
    let report = |pass: &sweep::SweepReport| metrics.sweep(pass);
    sweep::run(lister, &layout, &config.sweep, report, draining.cancelled()).await;
}

/// Says at start-up what the first push would otherwise find out.
async fn check_bucket(store: Arc<dyn BlobStore>) {
    match store.check().await {
        Ok(()) => log::info!("the bucket answers"),
        Err(error) => log::error!("the bucket cannot be used, so pushes will fail: {error}"),
    }
}

fn tls_acceptor(tls: &crate::config::Tls) -> Result<SslAcceptor, RunError> {
    let build = || {
        // <https://wiki.mozilla.org/Security/Server_Side_TLS#Intermediate_compatibility_.28recommended.29>
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
        builder.set_certificate_chain_file(&tls.certificate)?;
        builder.set_private_key_file(&tls.key, SslFiletype::PEM)?;
        builder.set_alpn_select_callback(|_, offered| {
            // Ours in the order of preference; a client that knows neither goes without.
            select_next_proto(b"\x02h2\x08http/1.1", offered).ok_or(AlpnError::NOACK)
        });
        Ok::<_, pingora::tls::error::ErrorStack>(builder.build())
    };
    build().map_err(|error| RunError::Tls(error.to_string()))
}
