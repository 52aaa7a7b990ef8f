//! `blobgate doctor`: looks at everything blobgate relies on, as an expert would, and says what to do.
//!
//! It changes nothing of anyone's: what it writes is its own (see [`specimen`]), is removed where
//! deleting is allowed, and is harmless where not.

mod canary;
mod certificate;
mod local;
mod login;
mod network;
mod permissions;
mod registry;
mod render;
mod report;
mod specimen;
mod store;

pub use login::Login;
pub use report::Check;

use crate::config::{self, Config};
use crate::registry::RepositoryName;
use crate::store::Layout;
use crate::store::s3::S3Store;
use crate::upstream::Upstream;
use http::HeaderValue;
use login::Authorising;
use network::Peer;
use permissions::Trial;
use registry::Client;
use report::{Entry, Finding, Outcome, Report, Verdict};
use specimen::{Specimen, Traces};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// The longest any one call may take here: an operator is waiting.
const CALL: Duration = Duration::from_secs(20);

/// One more try, so that a single broken connection is no finding.
const ATTEMPTS: u32 = 2;

/// Where an upload session is opened when no repository was named and the registry asks for no
/// credentials. Nothing of it stays.
const TRIAL_REPOSITORY: &str = "blobgate/doctor";

#[derive(Default)]
pub struct Options {
    /// To write the canary to, and to ask about.
    pub repository: Option<RepositoryName>,
    pub login: Option<Login>,
    /// The host by which clients know blobgate.
    pub host: Option<String>,
}

/// Everything that was looked at, and what came of it.
pub struct Diagnosis(Vec<Entry>);

impl Diagnosis {
    pub fn is_healthy(&self, warnings_allowed: bool) -> bool {
        let summary = render::Summary::of(&self.0);
        summary.failed == 0 && (summary.warned == 0 || warnings_allowed)
    }

    /// A line for each check, and one that sums up.
    pub fn text(&self) -> String {
        render::Text(&self.0).to_string()
    }

    /// One JSON document; `docs/OPERATIONS.md` has its fields.
    pub fn json(&self, config: &Path) -> serde_json::Result<String> {
        render::json(config, &self.0)
    }
}

/// Looks at everything. Returns early on Ctrl-C, having cleaned up.
pub async fn examine(path: &Path, options: &Options) -> Diagnosis {
    let mut report = Report::default();
    let Some(config) = report.tell(Check::Config, load(path)) else {
        return Diagnosis(report.complete());
    };
    let traces = Traces::default();
    let bench: OnceCell<(S3Store, Layout, Specimen)> = OnceCell::new();
    tokio::select! {
        () = look(&config, options, &mut report, &traces, &bench) => {}
        // What could not be looked at any more is reported as such.
        _ = tokio::signal::ctrl_c() => {}
    }
    if let Some((store, layout, specimen)) = bench.get() {
        let cleanup = traces.remove(store, layout, specimen, CALL);
        report.make(Check::Cleanup, cleanup).await;
    }
    Diagnosis(report.complete())
}

fn load(path: &Path) -> Verdict<Config> {
    match Config::load(path) {
        Ok(config) => Verdict::Pass(format!("{} is valid", path.display()), config),
        Err(errors) => {
            let faults: Vec<String> = errors.faults().iter().map(ToString::to_string).collect();
            Verdict::Fail(Finding::new(
                faults.join(" | "),
                "correct each; docs/CONFIGURATION.md has every key",
            ))
        }
    }
}

async fn look(
    config: &Config,
    options: &Options,
    report: &mut Report,
    traces: &Traces,
    bench: &OnceCell<(S3Store, Layout, Specimen)>,
) {
    report.tell(Check::Parts, local::parts(&config.upload));
    let listener = local::listener_certificate(&config.listen);
    report.tell(Check::ListenerCertificate, listener);

    let host = options.host.clone().unwrap_or_else(|| guess_host(config));
    let authorization = upstream(config, options, &host, report, traces).await;
    if bucket(config, report, bench).await.is_none() {
        return;
    }
    let Some((store, layout, specimen)) = bench.get() else {
        return;
    };
    let trial = Trial {
        store,
        config: &config.bucket,
        sweep: &config.sweep,
        layout,
        specimen,
        traces,
    };
    trial.blobs(report).await;
    report.make(Check::LinksPut, trial.link()).await;
    canary(config, options, &host, authorization, &trial, report).await;
}

/// Gives what further requests to the upstream carry, where it can be asked.
async fn upstream(
    config: &Config,
    options: &Options,
    host: &str,
    report: &mut Report,
    traces: &Traces,
) -> Option<Option<HeaderValue>> {
    let settings = &brisk_upstream(&config.upstream);
    let peer = Peer::new(
        "upstream.url",
        "upstream.ca_file",
        &settings.url,
        settings.ca_file.clone(),
        settings.connect_timeout,
    )?;
    reach(&peer, UPSTREAM_WAY, report).await?;
    let upstream = match Upstream::new(settings) {
        Ok(upstream) => upstream,
        Err(error) => {
            let finding = Finding::new(error.to_string(), "correct upstream.ca_file");
            return report.tell(Check::UpstreamApi, Verdict::Fail(finding));
        }
    };
    let mut client = client(config, options, host, &upstream);
    let refusal = report.make(Check::UpstreamApi, client.api()).await?;
    let authorising = Authorising {
        upstream: settings,
        given: options.login.as_ref(),
        authorities: authorities(settings, options),
        repository: options.repository.as_ref(),
    };
    let login = authorising.authorise(refusal.as_ref());
    let authorization = report.make(Check::UpstreamLogin, login).await?;
    client.authorization.clone_from(&authorization);

    let trial_repository = TRIAL_REPOSITORY.parse().ok();
    let repository = match (&options.repository, &authorization) {
        (Some(repository), _) => repository,
        (None, None) => trial_repository.as_ref()?,
        (None, Some(_)) => {
            let finding = Finding::new(
                "not checked: no repository was named",
                "give --repository, one that the user may push to",
            );
            report.tell::<()>(Check::UpstreamPush, Verdict::Skip(finding));
            return Some(authorization);
        }
    };
    let allowed = report.make(Check::UpstreamPush, client.may_push(repository));
    allowed.await?;
    if report.outcome(Check::UpstreamPush) == Some(Outcome::Warn) {
        let finding = Finding::new("not checked: the registry is read-only", "");
        report.tell::<()>(Check::UpstreamLocation, Verdict::Skip(finding));
    } else {
        let location = client.location(repository);
        if let Some(id) = report.make(Check::UpstreamLocation, location).await {
            traces.session(repository, id);
        }
    }
    Some(authorization)
}

/// To the point where the bucket is known to be there; `None` where it cannot be tried.
async fn bucket(
    config: &Config,
    report: &mut Report,
    bench: &OnceCell<(S3Store, Layout, Specimen)>,
) -> Option<()> {
    let settings = brisk_bucket(&config.bucket);
    let store = match S3Store::new(&settings, Arc::new(())) {
        Ok(store) => store,
        Err(error) => {
            let finding = Finding::new(error.to_string(), "correct bucket.endpoint");
            return report.tell(Check::BucketDns, Verdict::Fail(finding));
        }
    };
    let url = store.url()?;
    let key = match settings.endpoint {
        Some(_) => "bucket.endpoint",
        None => "bucket.region",
    };
    let peer = Peer::new(
        key,
        "bucket.ca_file",
        &url,
        settings.ca_file.clone(),
        settings.connect_timeout,
    )?;
    let credentials = store::credentials(&settings.credentials);
    let credentials = report.make(Check::BucketCredentials, credentials).await;
    reach(&peer, BUCKET_WAY, report).await?;
    let clock = store::clock(&settings, &url);
    report.make(Check::BucketClock, clock).await;
    credentials?;
    let signature = store::signature(&store);
    report.make(Check::BucketSignature, signature).await?;
    let (found, verdict) = store::exists(&store, &settings).await;
    report.tell(Check::BucketExists, verdict);
    if found == store::Bucket::Unusable {
        return None;
    }
    let layout = Layout::new(settings.layout, &settings.root_directory);
    let specimen = Specimen::prepare(&store, &layout, CALL).await;
    // Set once, and here only.
    let _ = bench.set((store, layout, specimen));
    Some(())
}

async fn canary(
    config: &Config,
    options: &Options,
    host: &str,
    authorization: Option<Option<HeaderValue>>,
    trial: &Trial<'_>,
    report: &mut Report,
) {
    let ready = [Check::BlobsPut, Check::LinksPut]
        .iter()
        .all(|check| report.outcome(*check) == Some(Outcome::Pass));
    let (Some(authorization), true) = (authorization, ready) else {
        return;
    };
    let Some(repository) = &options.repository else {
        let finding = Finding::new(
            "not checked: no repository was named",
            "give --repository, to see whether registry and blobgate share one bucket and layout",
        );
        report.tell::<()>(Check::Canary, Verdict::Skip(finding));
        return;
    };
    let upstream = match Upstream::new(&brisk_upstream(&config.upstream)) {
        Ok(upstream) => upstream,
        // Said already, by the check of the upstream.
        Err(_) => return,
    };
    let mut client = client(config, options, host, &upstream);
    client.authorization = authorization;
    let song = canary::sing(trial, &client, repository);
    report.make(Check::Canary, song).await;
}

const UPSTREAM_WAY: [Check; 3] = [
    Check::UpstreamDns,
    Check::UpstreamConnect,
    Check::UpstreamTls,
];
const BUCKET_WAY: [Check; 3] = [Check::BucketDns, Check::BucketConnect, Check::BucketTls];

async fn reach(peer: &Peer, [dns, connect, tls]: [Check; 3], report: &mut Report) -> Option<()> {
    let addresses = report.make(dns, peer.dns()).await?;
    let address = report.make(connect, peer.connect(&addresses)).await?;
    report.make(tls, peer.tls(address)).await
}

fn client<'a>(
    config: &Config,
    options: &Options,
    host: &'a str,
    upstream: &'a Upstream,
) -> Client<'a> {
    Client {
        upstream,
        host,
        host_given: options.host.is_some(),
        tls: config.listen.tls.is_some(),
        authorization: None,
    }
}

/// A name for blobgate's listener, as a client on this machine would write it.
fn guess_host(config: &Config) -> String {
    let address = config.listen.address;
    match address.ip() {
        ip if ip.is_unspecified() || ip.is_loopback() => format!("localhost:{}", address.port()),
        IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("[{ip}]:{}", address.port()),
    }
}

/// Names under which someone may have logged in: blobgate's, and the registry's own.
fn authorities(upstream: &config::Upstream, options: &Options) -> Vec<String> {
    let own = upstream.url.host_str().map(|host| {
        let port = upstream.url.port().map(|port| format!(":{port}"));
        format!("{host}{}", port.unwrap_or_default())
    });
    options.host.iter().cloned().chain(own).collect()
}

fn brisk_upstream(settings: &config::Upstream) -> config::Upstream {
    config::Upstream {
        connect_timeout: settings.connect_timeout.min(CALL),
        probe_timeout: settings.probe_timeout.min(CALL),
        idle_timeout: settings.idle_timeout.min(CALL),
        ..settings.clone()
    }
}

fn brisk_bucket(settings: &config::Bucket) -> config::Bucket {
    config::Bucket {
        connect_timeout: settings.connect_timeout.min(CALL),
        idle_timeout: settings.idle_timeout.min(CALL),
        call_timeout: settings.call_timeout.min(CALL),
        max_attempts: settings.max_attempts.min(ATTEMPTS),
        retry_budget: settings.retry_budget.min(CALL),
        ..settings.clone()
    }
}
