//! Tests of buckets, to messages and back.

use sheaf_model::{BucketName, Span};

use super::convert::{name, put};
use super::{TestBucket, TestEnd, TestResult, TestStep};
use crate::ApiError;
use crate::proto::v1;
use crate::proto::v1::test_bucket_response::Step;
use crate::spec::{BucketMessage, bucket_request};

/// Where the message says nothing.
const OBJECTS: u64 = 10;
const TIME: Span = Span::seconds(10);
const START_WITHIN: Span = Span::seconds(30);
/// Neither may take longer.
const LONGEST: Span = Span::seconds(3600);

pub(super) fn ask(message: v1::TestBucketRequest) -> Result<TestBucket, ApiError> {
    let v1::TestBucketRequest { bucket, latest, max_objects, max_time_ms, start_within_ms } = message;
    let put = put(BucketMessage { bucket, base_revision: None, latest, suspended: None })?;
    Ok(TestBucket {
        spec: put.spec,
        latest,
        max_objects: if max_objects == 0 { OBJECTS } else { max_objects },
        max_time: span("max_time_ms", max_time_ms, TIME)?,
        start_within: span("start_within_ms", start_within_ms, START_WITHIN)?,
    })
}

fn span(field: &str, given: u64, usual: Span) -> Result<Span, ApiError> {
    match Span::millis(given) {
        Span(0) => Ok(usual),
        span if span <= LONGEST => Ok(span),
        span => Err(ApiError::invalid(field, format!("{span} is too long"), format!("at most {LONGEST}"))),
    }
}

impl From<TestBucket> for v1::TestBucketRequest {
    fn from(ask: TestBucket) -> Self {
        Self {
            bucket: Some(bucket_request(ask.spec)),
            latest: ask.latest,
            max_objects: ask.max_objects,
            max_time_ms: ask.max_time.0,
            start_within_ms: ask.start_within.0,
        }
    }
}

impl From<TestStep> for v1::TestBucketResponse {
    fn from(step: TestStep) -> Self {
        let step = match step {
            TestStep::Started { bucket, node } => {
                Step::Started(v1::BucketTestStarted { bucket: bucket.to_string(), node })
            }
            TestStep::Line(line) => Step::Line(line.into()),
            TestStep::Ended(TestEnd { result, message, objects }) => {
                let result = match result {
                    TestResult::Passed => v1::BucketTestResult::Passed,
                    TestResult::Failed => v1::BucketTestResult::Failed,
                    TestResult::NotPlaced => v1::BucketTestResult::NotPlaced,
                };
                Step::Ended(v1::BucketTestEnded { result: result.into(), message, objects })
            }
        };
        Self { step: Some(step) }
    }
}

impl TryFrom<v1::TestBucketResponse> for TestStep {
    type Error = ApiError;

    fn try_from(message: v1::TestBucketResponse) -> Result<Self, ApiError> {
        match message.step {
            Some(Step::Started(v1::BucketTestStarted { bucket, node })) => {
                let bucket: BucketName = name(&bucket)?;
                Ok(Self::Started { bucket, node })
            }
            Some(Step::Line(line)) => Ok(Self::Line(line.try_into()?)),
            Some(Step::Ended(ended)) => {
                let result = match ended.result() {
                    v1::BucketTestResult::Passed => TestResult::Passed,
                    v1::BucketTestResult::Failed => TestResult::Failed,
                    v1::BucketTestResult::NotPlaced => TestResult::NotPlaced,
                    v1::BucketTestResult::Unspecified => {
                        return Err(ApiError::Internal(
                            "an end of a test that says not how it went".to_owned(),
                        ));
                    }
                };
                let v1::BucketTestEnded { message, objects, .. } = ended;
                Ok(Self::Ended(TestEnd { result, message, objects }))
            }
            None => Err(ApiError::Internal("a step of a test that says nothing".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketSpec, ModuleRef};

    use super::*;

    #[test]
    fn what_is_asked_comes_over_and_what_is_left_out_is_usual() {
        let module = ModuleRef::parse("m").expect("a reference");
        let spec = BucketSpec::new(BucketName::new("/a").expect("a name"), module);
        let (max_time, start_within) = (Span::seconds(2), Span::seconds(3));
        let asked = TestBucket { spec, latest: true, max_objects: 4, max_time, start_within };
        assert_eq!(ask(asked.clone().into()).expect("it is right"), asked);
        let bare = v1::TestBucketRequest {
            max_objects: 0,
            max_time_ms: 0,
            start_within_ms: 0,
            ..v1::TestBucketRequest::from(asked.clone())
        };
        let usual =
            TestBucket { max_objects: 10, max_time: TIME, start_within: START_WITHIN, ..asked.clone() };
        assert_eq!(ask(bare).expect("it is right"), usual);
        let long = TestBucket { max_time: Span::seconds(3601), ..asked };
        assert!(
            matches!(ask(long.into()), Err(ApiError::Invalid(defects)) if defects[0].path == "max_time_ms")
        );
        assert!(ask(v1::TestBucketRequest::default()).is_err());
    }
}
