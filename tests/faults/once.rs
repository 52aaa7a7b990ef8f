//! A call that fails once is made again, and the client hears nothing of it.

use super::*;

/// Faults that pass, and whether the server did as it was told before.
fn passing() -> Vec<(Fault, bool)> {
    let error = || "InternalError".to_owned();
    vec![
        (status(500, "InternalError"), false),
        (status(502, "BadGateway"), false),
        (status(400, "RequestTimeout"), false),
        (status(503, "SlowDown"), false),
        (
            Fault::EarlyStatus {
                status: 500,
                code: error(),
            },
            false,
        ),
        (
            Fault::StatusAfter {
                status: 500,
                code: error(),
            },
            true,
        ),
        (Fault::ResetAfter(0), false),
        (Fault::ResetAfter(500), false),
        (Fault::CutAnswer, true),
        (Fault::CutBody(20), true),
        (Fault::Garbage, true),
        (Fault::NonAsciiHeader, true),
        (Fault::OkEmptyBody, true),
        (bare_ok(), false),
        (
            Fault::OkWithErrorBody {
                code: error(),
                effect: false,
            },
            false,
        ),
        (
            Fault::OkWithErrorBody {
                code: error(),
                effect: true,
            },
            true,
        ),
        (
            Fault::Answer {
                status: 200,
                headers: vec![("Content-Type".into(), "text/html".into())],
                body: Bytes::from_static(b"<html>welcome</html>"),
            },
            false,
        ),
    ]
}

async fn passes(point: Point) {
    let stack = stack().start().unwrap();
    let mut faults = passing();
    if point.operation == "HeadObject" {
        // The answer to a HEAD has no body to say more than 400.
        faults.retain(|(fault, _)| !matches!(fault, Fault::Status { status: 400, .. }));
    }
    for (seed, (fault, effect)) in faults.into_iter().enumerate() {
        let blob = Blob::new(seed as u64, point.size);
        stack.s3_faults().clear();
        stack.s3_faults().add(point.rule(fault.clone()).nth(1));
        let answer = push(&stack, "a", blob).await;
        let status = answer.status();
        assert_all_free(&stack);
        assert_eq!(
            status,
            201,
            "{point:?} {fault:?}: {}",
            answer.text().await.unwrap()
        );
        let met = |calls: &[blobgate_testkit::faults::Record]| {
            let faults = calls.iter().filter(|call| call.fault.is_some());
            faults.count() == seed + 1
        };
        stack.s3_faults().until("the fault", met).await;
        assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;

        // An upload whose id was lost on the way is nobody's, until it is swept.
        let whole_answer = matches!(fault, Fault::NonAsciiHeader);
        let lost = point.operation == "CreateMultipartUpload" && effect && !whole_answer;
        let left = open_uploads_of(&stack, blob);
        assert_eq!(left.len(), usize::from(lost), "{fault:?}: {left:?}");
        assert!(left.iter().all(|upload| upload.parts.is_empty()));
    }
}

macro_rules! once {
    ($($name:ident: $point:expr,)*) => {$(
        #[tokio::test]
        async fn $name() {
            passes($point).await;
        }
    )*};
}

once! {
    head_fails_once: HEAD,
    create_fails_once: CREATE,
    the_first_part_fails_once: FIRST_PART,
    a_middle_part_fails_once: MIDDLE_PART,
    the_last_part_fails_once: LAST_PART,
    complete_fails_once: COMPLETE,
    the_link_fails_once: LINK,
    a_small_blobs_data_fails_once: SMALL_DATA,
    a_small_blobs_link_fails_once: SMALL_LINK,
}
