//! The orphan sweep: aborts multipart uploads that nobody will complete any more, such as those a
//! killed process left behind. Until then their parts are paid for and seen by nobody.
//!
//! A live upload must never be aborted, whoever began it: distribution's own driver opens uploads
//! at the same final keys. A push that moves may take any time in all, so the age of its upload
//! alone says nothing: an upload is an orphan when it was begun longer than `older_than` ago *and*
//! has got no part since. The slowest client that is not cut off fills a part sooner than that,
//! which the configuration sees to. Times are reckoned by the store's own clock where it tells it.
//! Keys that are no blob's data key, distribution's `_uploads/` among them, are left alone whatever
//! their age.
//!
//! Several replicas may sweep the same bucket: an upload that another one has aborted is gone, which
//! is no fault.
//!
//! MinIO matches a listing's prefix only where it is the exact key
//! (<https://github.com/minio/minio/issues/20989>), so that it lists nothing here, and the sweep
//! finds nothing to do. MinIO removes stale uploads by itself, after 24 hours unless told otherwise
//! (`MINIO_API_STALE_UPLOADS_EXPIRY`).

use super::{LastPart, Layout, OpenUpload, StoreError, UploadLister, UploadMarker};
use crate::config;
use std::time::{Duration, SystemTime};

/// The first pass is no later than this: after a crash there may be something to find.
const FIRST_WITHIN: Duration = Duration::from_secs(300);

/// What one pass found and did.
#[derive(Debug, Clone, Default)]
pub struct SweepReport {
    /// Open uploads at data keys, but those found gone when it came to them.
    pub listed: u64,
    /// Those of them that were begun longer than `older_than` ago and have got no part since.
    pub orphaned: u64,
    /// Those of them that were aborted, or were gone when it came to it. None in a dry run.
    pub aborted: u64,
    /// Those of them that could not be aborted.
    pub failed: u64,
    /// Open uploads of which it could not be found out whether they are orphaned.
    pub unknown: u64,
    /// Why the pass ended before all uploads were seen.
    pub cut_short: Option<StoreError>,
}

/// Sweeps once. Costs one listing call per page, and for each old upload one call per 500 parts and
/// one to abort it.
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
                judge(store, &upload, now, settings, &mut report).await;
            }
        }
        // A store that points to where we are would keep us listing for ever.
        if page.next.is_none() || page.next == after {
            return report;
        }
        after = page.next;
    }
}

/// Removes the upload if it is an orphan. What cannot be told of it counts in its favour.
async fn judge(
    store: &dyn UploadLister,
    upload: &OpenUpload,
    now: SystemTime,
    settings: &config::Sweep,
    report: &mut SweepReport,
) {
    let is_old = |time: SystemTime| {
        let age = now.duration_since(time);
        age.is_ok_and(|age| age > settings.older_than)
    };
    if !upload.initiated.is_some_and(is_old) {
        return;
    }
    let orphaned = match store.last_part(&upload.handle).await {
        Ok(LastPart::Never) => true,
        Ok(LastPart::At(time)) => is_old(time),
        Ok(LastPart::Unreadable) => false,
        // Another replica was quicker, or its owner completed it.
        Ok(LastPart::Gone) => {
            report.listed -= 1;
            false
        }
        Err(error) => {
            report.unknown += 1;
            log::warn!(
                "sweep: cannot find out whether upload {} of {} still lives, so it stays: {error}",
                upload.handle.upload_id,
                upload.handle.key,
            );
            false
        }
    };
    if orphaned {
        report.orphaned += 1;
        remove(store, upload, settings.dry_run, report).await;
    }
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
/// The first pass comes after a random part of the interval, and of [`FIRST_WITHIN`], so that
/// replicas started together don't sweep together. Does nothing where sweeping is not enabled.
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
        let spread = settings.interval.min(FIRST_WITHIN);
        tokio::time::sleep(spread.mul_f64(fastrand::f64())).await;
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
        orphaned,
        aborted,
        failed,
        unknown,
        cut_short,
    } = pass;
    let mode = if dry_run { " (dry run)" } else { "" };
    log::info!(
        "sweep{mode}: {listed} open uploads, {orphaned} orphaned, {aborted} aborted, \
         {failed} failed, {unknown} not to be judged"
    );
    if let Some(error) = cut_short {
        log::warn!("sweep{mode}: ended early: {error}");
    }
}

#[cfg(test)]
mod tests;
