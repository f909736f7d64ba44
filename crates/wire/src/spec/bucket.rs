//! A bucket's document.

use serde_json::Value;
use sheaf_model::document::Document;
use sheaf_model::{BucketSpec, BucketType, Defect, Json, OnNodeLost, PutBucket};

use super::{BucketMessage, Fields, answered, config, millis, no_spec, short, unknown_number};
use crate::ApiError;
use crate::proto::v1;

/// The document that a message stands for. What only a message can get wrong goes to `defects`.
pub(super) fn value(
    bucket: v1::BucketSpec,
    suspended: Option<bool>,
    base: Option<u64>,
    defects: &mut Vec<Defect>,
) -> Value {
    let document = format!("Bucket {}", short(&bucket.name));
    let kind = match v1::BucketType::try_from(bucket.r#type) {
        Ok(v1::BucketType::Unspecified) => None,
        Ok(v1::BucketType::Harvest) => Some(BucketType::Harvest.as_str()),
        Ok(v1::BucketType::Analytic) => Some(BucketType::Analytic.as_str()),
        Err(_) => {
            let known = "1 (harvest) or 2 (analytic)";
            defects.push(unknown_number("type", bucket.r#type, known, &document));
            None
        }
    };
    let lost = match v1::OnNodeLost::try_from(bucket.on_node_lost) {
        Ok(v1::OnNodeLost::Unspecified) => None,
        Ok(v1::OnNodeLost::Move) => Some(OnNodeLost::Move.as_str()),
        Ok(v1::OnNodeLost::Wait) => Some(OnNodeLost::Wait.as_str()),
        Err(_) => {
            let known = "1 (move) or 2 (wait)";
            defects.push(unknown_number("on_node_lost", bucket.on_node_lost, known, &document));
            None
        }
    };
    let config = config::value("config", bucket.config, bucket.config_json, &document, defects);

    let mut fields = Fields::new("Bucket");
    fields.put("name", bucket.name);
    fields.put_some("type", kind);
    fields.put("module", bucket.module);
    fields.put("multi_node", bucket.multi_node);
    if !bucket.node_list_rules.is_empty() {
        fields.put("node_list_rules", bucket.node_list_rules);
    }
    fields.put_some("config", config);
    fields.put_some("suspended", suspended);
    fields.put_some("poll_frequency", bucket.poll_frequency_ms.map(millis));
    fields.put_text("placement", bucket.placement);
    fields.put_some("on_node_lost", lost);
    fields.put_some("max_parallel", bucket.max_parallel);
    if !bucket.labels.is_empty() {
        let labels = bucket.labels.into_iter().map(|(key, value)| (key, Value::String(value)));
        fields.put("labels", Value::Object(labels.collect()));
    }
    fields.put_some("owner", bucket.owner);
    fields.put_some("revision", base);
    Value::Object(fields.0)
}

/// The spec of an answer.
pub(crate) fn bucket_spec(bucket: Option<v1::BucketSpec>) -> Result<BucketSpec, ApiError> {
    let mut defects = Vec::new();
    let value = value(bucket.ok_or_else(no_spec)?, None, None, &mut defects);
    match answered(&value, defects)? {
        Document::Bucket(put) => Ok(put.spec),
        _ => Err(no_spec()),
    }
}

/// As our clients send it: the config as text, which is exact.
pub(crate) fn bucket_request(spec: BucketSpec) -> v1::BucketSpec {
    let config_json = (spec.config != Json::default()).then(|| spec.config.as_str().to_owned());
    v1::BucketSpec { config_json, ..message(spec) }
}

/// As the server answers it: the config as a message, and as text only if that is not exact.
pub(crate) fn bucket_answer(spec: BucketSpec) -> v1::BucketSpec {
    let (config, config_json) = config::answer(&spec.config);
    v1::BucketSpec { config, config_json, ..message(spec) }
}

fn message(spec: BucketSpec) -> v1::BucketSpec {
    v1::BucketSpec {
        name: spec.name.as_str().to_owned(),
        r#type: kind(spec.kind).into(),
        module: spec.module.to_string(),
        multi_node: spec.multi_node,
        node_list_rules: spec.node_list_rules.0.into_iter().map(|rule| rule.text).collect(),
        config: None,
        config_json: None,
        poll_frequency_ms: spec.poll_frequency.map(|span| span.0),
        placement: spec.placement.to_string(),
        on_node_lost: match spec.on_node_lost {
            OnNodeLost::Move => v1::OnNodeLost::Move,
            OnNodeLost::Wait => v1::OnNodeLost::Wait,
        }
        .into(),
        max_parallel: spec.max_parallel,
        labels: spec.labels,
        owner: spec.owner,
    }
}

const fn kind(kind: BucketType) -> v1::BucketType {
    match kind {
        BucketType::Harvest => v1::BucketType::Harvest,
        BucketType::Analytic => v1::BucketType::Analytic,
    }
}

impl From<PutBucket> for BucketMessage {
    fn from(put: PutBucket) -> Self {
        Self {
            bucket: Some(bucket_request(put.spec)),
            base_revision: put.base.map(|revision| revision.0),
            latest: put.latest,
            suspended: put.suspended,
        }
    }
}
