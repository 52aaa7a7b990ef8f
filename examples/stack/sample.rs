use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::process::clean_environment;
use bytesize::ByteSize;
use sha2::{Digest, Sha256};

use crate::{Result, beside_this};

/// Where the sample is pushed.
pub const REPOSITORY: &str = "sample";

/// Pushes a blob with the push tool, pulls it back and compares. Returns its digest.
pub async fn round_trip(url: &str, dir: &Path, size: u64) -> Result<String> {
    let len = ByteSize(size);
    let path = dir.join("sample.bin");
    let digest = write(&path, size)?;

    println!("Pushing {len} of random bytes to {url}/v2/{REPOSITORY}/blobs/{digest}");
    let pushed = push(url, &path).await;
    std::fs::remove_file(&path)?;
    pushed?;

    let started = Instant::now();
    let pulled = pull(&format!("{url}/v2/{REPOSITORY}/blobs/{digest}")).await?;
    let seconds = started.elapsed().as_secs_f64();
    if pulled != digest {
        return Err(format!("what came back has another digest: {pulled}").into());
    }
    let rate = ByteSize((size as f64 / seconds) as u64);
    println!("Pulled it back in {seconds:.2} s ({rate}/s); the digest is the same.");
    Ok(digest)
}

fn write(path: &Path, size: u64) -> Result<String> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut hasher = Sha256::new();
    // A new one each time: a blob that is there already would not be sent.
    for chunk in Blob::new(fastrand::u64(..), size).chunks(1 << 20) {
        hasher.update(&chunk);
        file.write_all(&chunk)?;
    }
    file.flush()?;
    Ok(format!("sha256:{:x}", hasher.finalize()))
}

async fn push(url: &str, path: &Path) -> Result<()> {
    let mut command = Command::new(beside_this("push")?);
    command.arg(url).arg(REPOSITORY).arg(path);
    command.stdin(Stdio::null());
    clean_environment(&mut command);
    let mut command = tokio::process::Command::from(command);
    // Ctrl-C drops this future, and with it the push.
    let status = command.kill_on_drop(true).status().await?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the push failed ({status})").into()),
    }
}

async fn pull(url: &str) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut answer = client.get(url).send().await?.error_for_status()?;
    let mut hasher = Sha256::new();
    while let Some(chunk) = answer.chunk().await? {
        hasher.update(&chunk);
    }
    Ok(format!("sha256:{:x}", hasher.finalize()))
}
