//! The orphan sweep: aborts multipart uploads that nobody will complete any more, such as those a
//! killed process left behind. Until then their parts are paid for and seen by nobody.
//!
//! A live upload must never be aborted, whoever began it: distribution's own driver opens uploads
//! at the same final keys. So only age decides, reckoned by the store's own clock where it tells
//! it, and `older_than` must be longer than any upload can live. Keys that are no blob's data key,
//! distribution's `_uploads/` among them, are left alone whatever their age.
//!
//! Several replicas may sweep the same bucket: an upload that another one has aborted is gone, which
//! is no fault.
//!
//! MinIO matches a listing's prefix only where it is the exact key
//! (<https://github.com/minio/minio/issues/20989>), so that it lists nothing here, and the sweep
//! finds nothing to do. MinIO removes stale uploads by itself, after 24 hours unless told otherwise
//! (`MINIO_API_STALE_UPLOADS_EXPIRY`).

use super::{Layout, OpenUpload, StoreError, UploadLister, UploadMarker};
use crate::config;
use std::time::{Duration, SystemTime};

/// What one pass found and did.
#[derive(Debug, Clone, Default)]
pub struct SweepReport {
    /// Open uploads at data keys.
    pub listed: u64,
    /// Those of them that are older than `older_than`.
    pub old: u64,
    /// Those of them that were aborted, or were gone when it came to it. None in a dry run.
    pub aborted: u64,
    /// Those of them that could not be aborted.
    pub failed: u64,
    /// Why the pass ended before all uploads were seen.
    pub cut_short: Option<StoreError>,
}

/// Sweeps once. Costs one listing call per page, and one call per old upload.
pub async fn sweep(
    store: &dyn UploadLister,
    layout: &Layout,
    settings: &config::Sweep,
) -> SweepReport {
    let mut report = SweepReport::default();
    let mut after: Option<UploadMarker> = None;
    loop {
        let page = match store.list_uploads(after.as_ref()).await {
            Ok(page) => page,
            Err(error) => {
                report.cut_short = Some(error);
                return report;
            }
        };
        let now = page.store_time.unwrap_or_else(SystemTime::now);
        for upload in page.uploads {
            if layout.is_data_key(&upload.handle.key) {
                report.listed += 1;
                if is_old(&upload, now, settings.older_than) {
                    report.old += 1;
                    remove(store, &upload, settings.dry_run, &mut report).await;
                }
            }
        }
        // A store that points to where we are would keep us listing for ever.
        if page.next.is_none() || page.next == after {
            return report;
        }
        after = page.next;
    }
}

/// An upload without a readable date, or with one to come, counts as young.
fn is_old(upload: &OpenUpload, now: SystemTime, older_than: Duration) -> bool {
    upload
        .initiated
        .and_then(|initiated| now.duration_since(initiated).ok())
        .is_some_and(|age| age > older_than)
}

async fn remove(
    store: &dyn UploadLister,
    upload: &OpenUpload,
    dry_run: bool,
    report: &mut SweepReport,
) {
    let id = &upload.handle.upload_id;
    let key = &upload.handle.key;
    let begun = upload
        .initiated
        .map(|time| humantime::format_rfc3339_seconds(time).to_string())
        .unwrap_or_default();
    if dry_run {
        log::info!("sweep: would abort upload {id} of {key}, begun at {begun}");
        return;
    }
    match store.abort_upload(&upload.handle).await {
        Ok(()) => {
            report.aborted += 1;
            log::info!("sweep: aborted upload {id} of {key}, begun at {begun}");
        }
        Err(error) => {
            report.failed += 1;
            log::warn!("sweep: cannot abort upload {id} of {key}, begun at {begun}: {error}");
        }
    }
}

/// Sweeps once every interval until `shutdown` resolves, which also ends a pass that is under way.
///
/// The first pass comes after a random part of the interval, so that replicas started together
/// don't sweep together. Does nothing where sweeping is not enabled.
pub async fn run(
    store: &dyn UploadLister,
    layout: &Layout,
    settings: &config::Sweep,
    report: impl Fn(&SweepReport),
    shutdown: impl Future<Output = ()>,
) {
    if !settings.enabled {
        return;
    }
    let passes = async {
        tokio::time::sleep(settings.interval.mul_f64(fastrand::f64())).await;
        loop {
            let pass = sweep(store, layout, settings).await;
            log_pass(&pass, settings.dry_run);
            report(&pass);
            tokio::time::sleep(settings.interval).await;
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = passes => {}
    }
}

fn log_pass(pass: &SweepReport, dry_run: bool) {
    let SweepReport {
        listed,
        old,
        aborted,
        failed,
        cut_short,
    } = pass;
    let mode = if dry_run { " (dry run)" } else { "" };
    log::info!("sweep{mode}: {listed} open uploads, {old} old, {aborted} aborted, {failed} failed");
    if let Some(error) = cut_short {
        log::warn!("sweep{mode}: ended early: {error}");
    }
}

#[cfg(test)]
mod tests;
