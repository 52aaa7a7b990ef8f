#![forbid(unsafe_code)]

mod commands;

use blobgate::config::{Config, LogFormat};
use blobgate::store::s3::SECRET_LOG_TARGETS;
use blobgate::{ACCESS_LOG_TARGET, Start};
use clap::Parser;
use env_logger::fmt::Formatter;
use log::{LevelFilter, Record};
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// Part buffers are some 64 KiB long, made on one thread and freed on another. glibc keeps such
/// memory in its arenas: 32 pushes of 512 MiB at once took 109 MiB beside their budget of 512 MiB,
/// and the process kept all of it afterwards. With this it is some 40 MiB, and most goes back.
///
/// Without huge pages (`no_thp`): they cost an idle process 8 MiB more, and left 248 MiB instead of 117
/// after those pushes. What they would save is some 0.1 s of page faults a GiB.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
/// Also what clap exits with where it does not understand the arguments.
const MISCONFIGURED: u8 = 2;

const AFTER_HELP: &str = "\
Example:
  blobgate config from-registry /etc/docker/registry/config.yml --output proxy.yaml
  blobgate --config proxy.yaml --check
  blobgate doctor --config proxy.yaml
  blobgate --config proxy.yaml

The file's keys are described in docs/CONFIGURATION.md; proxy.yaml is a commented start.

Environment:
  RUST_LOG  takes precedence over log.level, for example `warn` or `info,blobgate=debug`
  Any variable that the file names as ${NAME}, and AWS's own for credentials

Exit codes:
  0  stopped as asked, or the configuration is valid (--check)
  1  failed to start or while running; not all is well (doctor); no configuration could be made
     (config from-registry)
  2  the arguments or the configuration are wrong";

/// Push large blobs into a self-hosted OCI registry: streamed, hash-verified, straight into its
/// S3 bucket
///
/// A reverse proxy before a registry that keeps its blobs in an S3 bucket. It takes
/// `PUT /v2/<name>/blobs/<digest>`, streams the body into the bucket, and lets it be seen only
/// once its digest is right. Every other request goes to the registry untouched.
#[derive(Parser)]
#[command(
    name = "blobgate",
    version,
    after_help = AFTER_HELP,
    override_usage = "blobgate --config <FILE> [--check]\n       \
                      blobgate doctor --config <FILE> [--json]\n       \
                      blobgate config from-registry <FILE> [--output <FILE>]",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<commands::Command>,

    /// The configuration, a YAML file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check the configuration, print it with its defaults filled in, and exit
    #[arg(long)]
    check: bool,

    /// Take over the listeners of the running process, which is then sent SIGQUIT
    ///
    /// Both meet at the configuration's upgrade_socket. No connection is refused meanwhile.
    #[arg(long, conflicts_with = "check")]
    upgrade: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(command) = arguments.command {
        // What a command has to say is its output; a log is for who asks for one.
        let rust_log = std::env::var("RUST_LOG").unwrap_or_default();
        logger(LevelFilter::Off, &rust_log).init();
        return command.run();
    }
    let Some(path) = arguments.config else {
        eprintln!(
            "error: no configuration given\n\n\
             Write `blobgate --config proxy.yaml`; the proxy.yaml that comes with blobgate is a \
             commented start.\n`blobgate --help` says more."
        );
        return ExitCode::from(MISCONFIGURED);
    };
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(errors) => {
            let faults = match errors.faults().len() {
                1 => "1 fault".to_owned(),
                count => format!("{count} faults"),
            };
            eprintln!("error: {faults} in {}\n{errors}", path.display());
            return ExitCode::from(MISCONFIGURED);
        }
    };
    if arguments.check {
        // A reader that closes the pipe early (`| head`) is no failure.
        let _ = writeln!(stdout(), "configuration is valid\n\n{config}");
        return ExitCode::SUCCESS;
    }
    let rust_log = std::env::var("RUST_LOG").unwrap_or_default();
    let mut logger = logger(config.log.level, &rust_log);
    if config.log.format == LogFormat::Json {
        logger.format(json_line);
    }
    logger.init();
    let start = if arguments.upgrade {
        Start::Upgrade
    } else {
        Start::Fresh
    };
    match blobgate::run(config, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by the log: it may be off, and this is why the process ends.
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Crates that log whole request headers below info, the clients' `Authorization` with them, beside
/// those that may log our own. A level for everything does not reach any of them: who wants that
/// must name the crate.
const LEAKY: [&str; 2] = ["pingora_core", "pingora_proxy"];

fn logger(level: LevelFilter, rust_log: &str) -> env_logger::Builder {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    for module in LEAKY.into_iter().chain(SECRET_LOG_TARGETS) {
        builder.filter_module(module, level.min(LevelFilter::Info));
    }
    builder.parse_filters(rust_log);
    builder
}

/// One JSON object. An access log line is JSON already, and stands in it as an object of its own.
fn json_line(out: &mut Formatter, record: &Record) -> std::io::Result<()> {
    let message = record.args().to_string();
    let (name, said) = match serde_json::from_str(&message) {
        Ok(line @ Value::Object(_)) if record.target() == ACCESS_LOG_TARGET => ("request", line),
        _ => ("message", Value::String(message)),
    };
    let line = json!({
        "time": out.timestamp_millis().to_string(),
        "level": record.level().as_str().to_lowercase(),
        "target": record.target(),
        name: said,
    });
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    #[test]
    fn authorisation_headers_are_logged_only_where_their_crate_is_named() {
        // log.level, RUST_LOG, and whether debug passes from blobgate and from pingora.
        let cases = [
            (LevelFilter::Info, "", false, false),
            (LevelFilter::Trace, "", true, false),
            (LevelFilter::Info, "debug", true, false),
            (LevelFilter::Info, "blobgate=debug", true, false),
            (LevelFilter::Trace, "warn", false, false),
            (LevelFilter::Info, "pingora_proxy=debug", false, true),
        ];
        for (level, rust_log, from_blobgate, from_pingora) in cases {
            let logger = logger(level, rust_log).build();
            let passes = |target: &str| {
                logger.matches(&Record::builder().level(Level::Debug).target(target).build())
            };
            let passed = (passes("blobgate::upload"), passes("pingora_proxy"));
            assert_eq!(
                passed,
                (from_blobgate, from_pingora),
                "of {level}, {rust_log:?}"
            );
        }
    }
}
