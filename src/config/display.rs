//! The effective configuration as YAML: defaults filled in, secrets as `***`.
//!
//! What it prints can be loaded again, which is how the tests know that no key is missing.

use super::units::{format_duration, format_size};
use super::{Bucket, Config, Credentials, LayoutKind, Listen, LogFormat, Upload, Upstream};
use std::fmt::{self, Display, Formatter};

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        listen(f, &self.listen)?;
        upstream(f, &self.upstream)?;
        bucket(f, &self.bucket)?;
        upload(f, &self.upload)?;
        writeln!(f, "sweep:")?;
        line(f, "enabled", self.sweep.enabled)?;
        line(f, "interval", format_duration(self.sweep.interval))?;
        line(f, "older_than", format_duration(self.sweep.older_than))?;
        line(f, "dry_run", self.sweep.dry_run)?;
        writeln!(f, "admin:")?;
        match self.admin.address {
            Some(address) => line(f, "address", Quoted(address))?,
            None => line(f, "address", "off")?,
        }
        match self.admin.check_interval {
            Some(interval) => line(f, "check_interval", format_duration(interval))?,
            None => line(f, "check_interval", "off")?,
        }
        writeln!(f, "log:")?;
        line(f, "level", self.log.level.as_str().to_lowercase())?;
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        line(f, "format", format)?;
        writeln!(f, "threads: {}", self.threads)?;
        write!(f, "grace_period: {}", format_duration(self.grace_period))?;
        match &self.upgrade_socket {
            Some(path) => write!(f, "\nupgrade_socket: {}", Quoted(path.display())),
            None => Ok(()),
        }
    }
}

fn listen(f: &mut Formatter<'_>, listen: &Listen) -> fmt::Result {
    writeln!(f, "listen:")?;
    line(f, "address", Quoted(listen.address))?;
    if let Some(tls) = &listen.tls {
        writeln!(f, "  tls:")?;
        writeln!(f, "    certificate: {}", Quoted(tls.certificate.display()))?;
        writeln!(f, "    key: {}", Quoted(tls.key.display()))?;
    }
    line(f, "trust_forwarded", listen.trust_forwarded)?;
    line(f, "header_timeout", format_duration(listen.header_timeout))?;
    line(
        f,
        "keepalive_timeout",
        format_duration(listen.keepalive_timeout),
    )?;
    line(f, "max_connections", listen.max_connections)?;
    line(f, "http2_memory", format_size(listen.http2_memory))
}

fn upstream(f: &mut Formatter<'_>, upstream: &Upstream) -> fmt::Result {
    writeln!(f, "upstream:")?;
    line(f, "url", Quoted(&upstream.url))?;
    if let Some(ca_file) = &upstream.ca_file {
        line(f, "ca_file", Quoted(ca_file.display()))?;
    }
    line(
        f,
        "connect_timeout",
        format_duration(upstream.connect_timeout),
    )?;
    line(f, "idle_timeout", format_duration(upstream.idle_timeout))?;
    line(f, "probe_timeout", format_duration(upstream.probe_timeout))
}

fn bucket(f: &mut Formatter<'_>, bucket: &Bucket) -> fmt::Result {
    writeln!(f, "bucket:")?;
    line(f, "name", Quoted(&bucket.name))?;
    line(f, "region", Quoted(&bucket.region))?;
    if let Some(endpoint) = &bucket.endpoint {
        line(f, "endpoint", Quoted(endpoint))?;
    }
    line(f, "root_directory", Quoted(&bucket.root_directory))?;
    let layout = match bucket.layout {
        LayoutKind::Distribution => "distribution",
        LayoutKind::Flat => "flat",
    };
    line(f, "layout", layout)?;
    line(f, "path_style", bucket.path_style)?;
    if let Some(ca_file) = &bucket.ca_file {
        line(f, "ca_file", Quoted(ca_file.display()))?;
    }
    line(f, "encrypt", bucket.encrypt)?;
    if let Some(id) = &bucket.kms_key_id {
        line(f, "kms_key_id", Quoted(id))?;
    }
    if let Some(class) = &bucket.storage_class {
        line(f, "storage_class", class)?;
    }
    if let Some(acl) = &bucket.acl {
        line(f, "acl", acl)?;
    }
    credentials(f, &bucket.credentials)?;
    line(
        f,
        "connect_timeout",
        format_duration(bucket.connect_timeout),
    )?;
    line(f, "idle_timeout", format_duration(bucket.idle_timeout))?;
    line(f, "call_timeout", format_duration(bucket.call_timeout))?;
    line(f, "max_attempts", bucket.max_attempts)?;
    line(f, "retry_budget", format_duration(bucket.retry_budget))
}

fn credentials(f: &mut Formatter<'_>, credentials: &Credentials) -> fmt::Result {
    match credentials {
        Credentials::Static { session_token, .. } => {
            writeln!(f, "  credentials:")?;
            writeln!(f, "    access_key_id: \"***\"")?;
            writeln!(f, "    secret_access_key: \"***\"")?;
            match session_token {
                Some(_) => writeln!(f, "    session_token: \"***\""),
                None => Ok(()),
            }
        }
        Credentials::Chain {
            profile: Some(name),
        } => {
            writeln!(f, "  credentials:")?;
            writeln!(f, "    profile: {}", Quoted(name))
        }
        Credentials::Chain { profile: None } => line(f, "credentials", "{}"),
    }
}

fn upload(f: &mut Formatter<'_>, upload: &Upload) -> fmt::Result {
    writeln!(f, "upload:")?;
    line(f, "part_size", format_size(upload.part_size))?;
    line(f, "part_concurrency", upload.part_concurrency)?;
    line(f, "max_part_concurrency", upload.max_part_concurrency)?;
    line(f, "max_blob_size", format_size(upload.max_blob_size))?;
    line(f, "max_streaming", upload.max_streaming)?;
    line(f, "memory_budget", format_size(upload.memory_budget))?;
    line(
        f,
        "admission_timeout",
        format_duration(upload.admission_timeout),
    )?;
    line(f, "idle_timeout", format_duration(upload.idle_timeout))?;
    line(f, "min_rate", format_size(upload.min_rate))?;
    line(
        f,
        "min_rate_window",
        format_duration(upload.min_rate_window),
    )
}

fn line(f: &mut Formatter<'_>, key: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "  {key}: {value}")
}

/// A text as the loader reads it back: quoted as in JSON, which YAML understands, each dollar
/// doubled.
pub(super) struct Quoted<T>(pub T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string().replace('$', "$$");
        serde_json::Value::String(text).fmt(f)
    }
}
