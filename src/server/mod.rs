//! The wiring, in the order data flows, and the process's life from bind to exit.

mod signals;
mod sockets;

use crate::admin::Admin;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::net;
use crate::proxy::{Door, Forwarding, ForwardingError, Gate, Pushes, Timing};
use crate::store::BlobStore;
use crate::store::s3::{self, S3Store};
use crate::upload::{Aborter, Admission, Limits, Pace, Uploader};
use crate::upstream::Upstream;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use signals::{Signal, Signals};
use sockets::Sockets;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests may take to notice that they must end.
const FAREWELL: Duration = Duration::from_secs(5);

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
        "no listeners were handed over at {path} ({reason}); is the running process's \
         upgrade_socket the same, and was it sent SIGQUIT?",
        path = .path.display()
    )]
    TakeOver { path: PathBuf, reason: String },
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
    let sockets = match (start, &config.upgrade_socket) {
        (Start::Fresh, _) => Sockets::new(),
        (Start::Upgrade, Some(path)) => Sockets::take_over(path.clone()).await?,
        (Start::Upgrade, None) => return Err(RunError::NoUpgradeSocket),
    };
    // Ports first: one that is taken should be said before anything else is tried.
    let front = sockets.claim("listen.address", config.listen.address)?;
    let back = config
        .admin
        .address
        .map(|address| sockets.claim("admin.address", address))
        .transpose()?;
    let claimed: Vec<SocketAddr> = std::iter::once(&front)
        .chain(&back)
        .map(|socket| socket.address)
        .collect();
    sockets.close_unclaimed(&claimed);

    let metrics = Arc::new(Metrics::new(prometheus::default_registry())?);
    let store: Arc<dyn BlobStore> =
        Arc::new(S3Store::new(&config.bucket, Arc::clone(&metrics) as _)?);
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
            part_concurrency: config.upload.part_concurrency,
        },
    );
    let forwarding = Arc::new(Forwarding::new(
        &config.upstream,
        config.listen.trust_forwarded,
    )?);
    let stop = CancellationToken::new();
    let draining = CancellationToken::new();
    let requests = TaskTracker::new();
    let gate = Gate {
        pushes: Pushes {
            store: Arc::clone(&store),
            uploader,
            upstream: Upstream::new(&config.upstream)?,
            forwarding: Arc::clone(&forwarding),
            metrics: Arc::clone(&metrics),
            pace: Pace {
                idle_timeout: config.upload.idle_timeout,
                min_rate: config.upload.min_rate,
                min_rate_window: config.upload.min_rate_window,
            },
            question_timeout: config.upstream.probe_timeout,
            stop: stop.clone(),
        },
        forwarding,
        metrics: Arc::clone(&metrics),
        timing: Timing {
            keepalive: config.listen.keepalive_timeout,
            idle: config.upstream.idle_timeout,
        },
        requests: requests.clone(),
    };
    let conf = ServerConf {
        threads: config.threads,
        ..ServerConf::default()
    };
    let door = Door::new(
        http_proxy(&Arc::new(conf), gate),
        config.listen.max_connections,
        config.listen.header_timeout,
        config.listen.keepalive_timeout,
    );

    let (shutdown, watch) = watch::channel(false);
    let scheme = if config.listen.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let tls = config.listen.tls.as_ref().map(tls_settings).transpose()?;
    let front_address = front.address;
    let front = front.serve("blobgate", door, tls, watch.clone());
    log::info!("listening on {scheme}://{front_address}");
    let back = back.map(|socket| {
        let address = socket.address;
        let admin = Admin {
            metrics: Arc::clone(&metrics),
            admission: Arc::clone(&admission),
            draining: draining.clone(),
        };
        let task = socket.serve("admin", admin, None, watch);
        log::info!("admin listening on http://{address}");
        task
    });
    let check = tokio::spawn(check_bucket(Arc::clone(&store)));

    let grace = loop {
        match signals.next().await {
            Signal::Terminate => break config.grace_period,
            Signal::Interrupt => break Duration::ZERO,
            Signal::HandOver => match hand_over(&sockets, config.upgrade_socket.as_deref()).await {
                Ok(()) => break config.grace_period,
                Err(reason) => {
                    log::error!("the listeners were not handed over, so serving goes on: {reason}");
                }
            },
        }
    };
    draining.cancel();
    // Closes the listeners and the idle connections.
    let _ = shutdown.send(true);
    let _ = front.await;
    requests.close();
    log::info!(
        "stopping: {} request(s) in flight have {grace:?} to finish",
        requests.len()
    );
    tokio::select! {
        () = requests.wait() => {}
        () = tokio::time::sleep(grace) => {
            log::warn!("{} request(s) did not finish in time and are ended", requests.len());
        }
        _ = signals.next() => log::warn!("told to stop again: ending what is in flight"),
    }

    // From here on no upload goes on; each that is dropped starts its abort.
    stop.cancel();
    admission.close();
    let _ = tokio::time::timeout(FAREWELL, requests.wait()).await;
    aborter.idle().await;
    check.abort();
    if let Some(back) = back {
        back.abort();
    }
    log::info!("stopped");
    Ok(())
}

async fn hand_over(sockets: &Sockets, path: Option<&Path>) -> Result<(), String> {
    let path = path.ok_or("upgrade_socket is not configured")?;
    sockets.hand_over(path).await?;
    log::info!("the listeners were handed over at {}", path.display());
    Ok(())
}

/// Says at start-up what the first push would otherwise find out.
async fn check_bucket(store: Arc<dyn BlobStore>) {
    match store.check().await {
        Ok(()) => log::info!("the bucket answers"),
        Err(error) => log::error!("the bucket cannot be used, so pushes will fail: {error}"),
    }
}

fn tls_settings(tls: &crate::config::Tls) -> Result<TlsSettings, RunError> {
    let failed = |error: String| RunError::Tls(error);
    let path = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| failed(format!("{} is not valid UTF-8", path.display())))
    };
    let mut settings = TlsSettings::intermediate(&path(&tls.certificate)?, &path(&tls.key)?)
        .map_err(|error| failed(error.to_string()))?;
    settings.enable_h2();
    Ok(settings)
}
