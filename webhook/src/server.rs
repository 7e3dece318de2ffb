//! The routes `/mutate` and `/validate`: read, look up, decide, answer. Every answer is an AdmissionReview.

use std::sync::Arc;
use std::time::Instant;

use freehold_policy::Phase;
use freehold_serve::connections::{self, Routes};
use warp::http::StatusCode;
use warp::hyper::body::Bytes;
use warp::reject::{LengthRequired, PayloadTooLarge};
use warp::reply::Response;
use warp::{Filter, Rejection, Reply as _};

use crate::decide::{decide, need};
use crate::look_up::LookUp;
use crate::metrics::Metrics;
use crate::review::{Answer, MAX_REVIEW_BYTES, read};

/// The two routes.
pub fn routes(look_up: LookUp, metrics: Metrics) -> Routes {
    let shared = Arc::new((look_up, metrics));
    let call = move |path: &'static str, phase: Phase| {
        let shared = shared.clone();
        warp::path(path)
            .and(warp::path::end())
            .and(warp::post())
            .and(warp::body::content_length_limit(MAX_REVIEW_BYTES))
            .and(warp::body::bytes())
            .then(move |bytes: Bytes| {
                let shared = shared.clone();
                async move { answer(phase, &bytes, &shared.0, &shared.1).await }
            })
    };
    connections::routes(call("mutate", Phase::Complete).or(call("validate", Phase::Judge)).unify().recover(rejected))
}

async fn answer(phase: Phase, bytes: &[u8], look_up: &LookUp, metrics: &Metrics) -> Response {
    let began = Instant::now();
    let review = match read(bytes) {
        Ok(review) => review,
        Err(unreadable) => {
            tracing::warn!(error = %unreadable, "a review could not be read");
            metrics.reviewed(phase, "Unreadable", "unreadable", began.elapsed());
            return encode(StatusCode::BAD_REQUEST, &unreadable.uid, &Answer::refuse("unreadable", 400, unreadable.to_string()));
        }
    };
    let found = look_up.find(&review.user, need(&review)).await;
    let answer = decide(phase, &review, found);
    metrics.reviewed(phase, review.kind(), answer.outcome, began.elapsed());
    if let Some(told) = &answer.told {
        metrics.told(told);
    }
    tracing::debug!(
        uid = review.uid,
        kind = review.kind(),
        outcome = answer.outcome,
        ?phase,
        user = review.user.username,
        "answered"
    );
    encode(StatusCode::OK, &review.uid, &answer)
}

/// What warp refused before we saw it: the API server reads anything but 200 as "not answered" and leaves it to the floor.
async fn rejected(rejection: Rejection) -> Result<Response, Rejection> {
    let (status, why) = if rejection.find::<PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, format!("the review is longer than {MAX_REVIEW_BYTES} bytes"))
    } else if rejection.find::<LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "the review comes without a Content-Length".to_owned())
    } else if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "there are only the paths /mutate and /validate".to_owned())
    } else {
        (StatusCode::BAD_REQUEST, "POST an AdmissionReview to /mutate or /validate".to_owned())
    };
    Ok(encode(status, "", &Answer::refuse("rejected", status.as_u16(), why)))
}

fn encode(status: StatusCode, uid: &str, answer: &Answer) -> Response {
    match answer.encode(uid) {
        Ok(bytes) => {
            warp::reply::with_header(warp::reply::with_status(bytes, status), "content-type", "application/json").into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON form");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
