//! What can be told from the configuration alone.

use super::certificate;
use super::report::{Finding, Verdict};
use crate::config::{Listen, Upload, format_size};
use crate::upload::{MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE, PartPlan};
use openssl::x509::X509;

/// Whether the longest blob fits S3's limits, in parts that memory can hold. Reckoned, not tried.
pub fn parts(upload: &Upload) -> Verdict {
    let longest = upload.max_blob_size;
    let announced = PartPlan::new(upload.part_size, longest, Some(longest)).part_size;
    let unannounced = PartPlan::new(upload.part_size, longest, None).limit;
    let count = longest.div_ceil(announced);
    if !(MIN_PART_SIZE..=MAX_PART_SIZE).contains(&announced) || count > MAX_PARTS {
        return Verdict::Fail(Finding::new(
            format!(
                "a blob of {} (upload.max_blob_size) takes {count} parts of {} (upload.part_size); \
                 S3 takes {MAX_PARTS} parts of {} to {}",
                format_size(longest),
                format_size(announced),
                format_size(MIN_PART_SIZE),
                format_size(MAX_PART_SIZE),
            ),
            "raise upload.part_size or lower upload.max_blob_size",
        ));
    }
    let found = format!(
        "parts of {}; the longest blob, {}, takes {count} of {MAX_PARTS} parts of {}; one of \
         unannounced length may have {} (reckoned, not tried)",
        format_size(upload.part_size),
        format_size(longest),
        about(announced),
        about(unannounced),
    );
    let wanted = upload.part_size.saturating_mul(upload.max_streaming as u64);
    if wanted > upload.memory_budget {
        let remedy = format!(
            "raise upload.memory_budget to {} or lower upload.max_streaming to {}, or pushes wait \
             for memory while slots are free",
            format_size(wanted),
            upload.memory_budget / upload.part_size
        );
        let found = format!(
            "upload.memory_budget ({}) holds less than one part of {} for each of \
             upload.max_streaming ({}) uploads",
            format_size(upload.memory_budget),
            format_size(upload.part_size),
            upload.max_streaming
        );
        return Verdict::Warn(Finding::new(found, remedy), ());
    }
    Verdict::Pass(found, ())
}

/// A length that need not be round.
fn about(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let unit = if bytes < 10 * GIB { MIB } else { GIB };
    match bytes % unit {
        0 => format_size(bytes),
        rest => format!("about {}", format_size(bytes - rest)),
    }
}

/// The certificate that clients are shown; the loader has seen that its key belongs to it.
pub fn listener_certificate(listen: &Listen) -> Verdict {
    let Some(tls) = &listen.tls else {
        return Verdict::Pass("plain HTTP; nothing to look at".to_owned(), ());
    };
    let read = std::fs::read(&tls.certificate).map_err(|error| error.to_string());
    let chain = read.and_then(|pem| {
        X509::stack_from_pem(&pem).map_err(|_| "it holds no PEM certificate".to_owned())
    });
    match chain {
        Ok(chain) => certificate::judge(
            &chain,
            &format!("listen.tls.certificate {}", tls.certificate.display()),
            "have a new one issued, and restart blobgate",
        ),
        Err(reason) => Verdict::Fail(Finding::new(
            format!("{} cannot be read: {reason}", tls.certificate.display()),
            "name a readable PEM file",
        )),
    }
}
