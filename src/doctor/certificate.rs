//! How long certificates are still good for.

use super::report::{Finding, Verdict};
use openssl::asn1::Asn1Time;
use openssl::x509::{X509, X509Ref};

/// A certificate that ends in fewer days is warned of: whoever renews at 30 days, as ACME clients
/// do, has failed to by then.
const SHORT: i32 = 21;

/// Judges the one of a chain that ends first. `whose` names it, `renew` says what to do.
pub fn judge(chain: &[X509], whose: &str, renew: &str) -> Verdict {
    let ends = chain
        .iter()
        .filter_map(|certificate| Some((days_left(certificate)?, certificate)));
    let Some((days, first)) = ends.min_by_key(|(days, _)| *days) else {
        return Verdict::Fail(Finding::new(
            format!("{whose} has no certificate whose end can be read"),
            renew,
        ));
    };
    let until = first.not_after();
    let name = subject(first);
    if days < 0 {
        let found = format!("{whose} ({name}) expired on {until}");
        Verdict::Fail(Finding::new(found, renew))
    } else if days < SHORT {
        let found = format!("{whose} ({name}) expires in {days} days, on {until}");
        Verdict::Warn(Finding::new(found, renew), ())
    } else {
        let found = format!("{whose} ({name}) is good for {days} days, until {until}");
        Verdict::Pass(found, ())
    }
}

/// Negative once it has ended.
fn days_left(certificate: &X509Ref) -> Option<i32> {
    let now = Asn1Time::days_from_now(0).ok()?;
    let left = now.diff(certificate.not_after()).ok()?;
    // Within its last day the days are 0, on both sides of the end.
    Some(match (left.days, left.secs) {
        (0, seconds) if seconds < 0 => -1,
        (days, _) => days,
    })
}

/// The common name, or the first alternative one.
pub fn subject(certificate: &X509Ref) -> String {
    let common = certificate.subject_name().entries().find_map(|entry| {
        let named = entry.object().nid() == openssl::nid::Nid::COMMONNAME;
        let text = entry.data().to_string().ok()?;
        named.then_some(text)
    });
    let alternative = || {
        let names = certificate.subject_alt_names()?;
        let first = names.iter().find_map(|name| name.dnsname())?;
        Some(first.to_owned())
    };
    let name = common.or_else(alternative).unwrap_or_default();
    name.escape_debug().to_string()
}
