//! Config schemas: a module's JSON Schema of `bucket.config`, looked at before anything is proposed.
//!
//! What the log holds is not looked at again: another build of the library may judge otherwise, and replicas must not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::{PatternOptions, Validator};
use sheaf_engine::{Apply, Refusal, registration};
use sheaf_model::{BucketSpec, Defect, Json, ModuleSpec, PutBucket};
use sheaf_wire::ApiError;

use crate::Control;
use crate::propose::refused;

/// A regular expression of a schema may not grow larger than this when it is compiled, in bytes.
const PATTERN_MAX: usize = 1 << 20;
/// What is kept of one violation's text, in characters: a value stands in it whole.
const TEXT_MAX: usize = 300;
/// So many violations of one bucket are told; there may be one for every item of a long list.
const TOLD: usize = 50;
/// So many compiled schemas are kept …
const KEPT: usize = 32;
/// … of at most so many bytes of text each: what becomes of them may be far larger.
const KEPT_BYTES: usize = 16 << 10;

/// Schemas as they were compiled, by their text. Compiling one takes far longer than looking at a config by it, and buckets
/// come by the thousand that have the same.
#[derive(Default)]
pub(crate) struct Compiled {
    // Held to look one up, or to put one in.
    kept: Mutex<BTreeMap<Json, Arc<Validator>>>,
}

impl Compiled {
    fn get(&self, schema: &Json) -> Result<Arc<Validator>, String> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept().get(schema).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let validator = Arc::new(compile(schema)?);
        if schema.as_str().len() <= KEPT_BYTES {
            let mut kept = kept();
            if kept.len() >= KEPT {
                // Those in use come back.
                kept.clear();
            }
            kept.insert(schema.clone(), validator.clone());
        }
        Ok(validator)
    }
}

impl Control {
    /// Refuses documents whose schema is none, or whose config breaks its module's or is null where the module names it, with
    /// everything else that is wrong.
    pub(crate) fn check_schemas(&self, apply: &Apply) -> Result<(), ApiError> {
        // Of the state alone: every change comes through here, and must not wait for what the leader decides just now.
        let member = self.member()?;
        let (schemas, nulls) = {
            let state = member.replica.state();
            let modules = registration::modules_of(&state, apply);
            (Schemas::of(apply, &modules), nulls(apply, &modules))
        };
        let defects = with_nulls(schemas.defects(apply, &self.schemas), nulls);
        if defects.is_empty() {
            return Ok(());
        }
        let others = match registration::check(&member.replica.state(), apply) {
            Err(Refusal::Invalid(others)) => others,
            // Nothing else is wrong with the documents themselves.
            Err(_) | Ok(_) => Vec::new(),
        };
        Err(refused(Refusal::Invalid(defects.into_iter().chain(others).collect())))
    }
}

/// What is wrong with a bucket's config by its module's schema, or with the schema itself: the same that a cluster would say.
pub fn config_defects(module: &ModuleSpec, bucket: &BucketSpec) -> Vec<Defect> {
    let put = PutBucket { spec: bucket.clone(), suspended: None, base: None, latest: false };
    let apply = Apply { modules: vec![module.clone()], buckets: vec![put] };
    let broken = Schemas::of(&apply, &[Some(module)]).defects(&apply, &Compiled::default());
    with_nulls(broken, nulls(&apply, &[Some(module)]))
}

/// What is null of the buckets' configs and named by their `modules`, each bucket's in its place.
fn nulls(apply: &Apply, modules: &[Option<&ModuleSpec>]) -> Vec<Defect> {
    let known = apply.buckets.iter().zip(modules);
    known.filter_map(|(put, module)| Some(registration::nulls(&put.spec, (*module)?))).flatten().collect()
}

/// The same after what the schemas say, but for what they say of these as well.
fn with_nulls(mut broken: Vec<Defect>, mut nulls: Vec<Defect>) -> Vec<Defect> {
    let told: BTreeSet<(&str, &str)> =
        broken.iter().map(|defect| (defect.document.as_str(), defect.path.as_str())).collect();
    nulls.retain(|null| !told.contains(&(null.document.as_str(), null.path.as_str())));
    broken.extend(nulls);
    broken
}

/// The schemas that a request's buckets must keep to.
#[derive(Default)]
struct Schemas {
    of: BTreeMap<String, Json>,
    /// Each bucket's place in the request, and its module.
    buckets: Vec<(usize, String)>,
}

impl Schemas {
    /// `modules` holds each bucket's.
    fn of(apply: &Apply, modules: &[Option<&ModuleSpec>]) -> Self {
        let mut schemas = Self::default();
        for (index, module) in modules.iter().enumerate().take(apply.buckets.len()) {
            let Some((module, schema)) = module.and_then(|it| Some((it, it.config_schema.as_ref()?))) else {
                continue;
            };
            let name = format!("{}@{}", module.name, module.version);
            schemas.buckets.push((index, name.clone()));
            schemas.of.entry(name).or_insert_with(|| schema.clone());
        }
        schemas
    }

    fn defects(&self, apply: &Apply, compiled: &Compiled) -> Vec<Defect> {
        let mut defects = Vec::new();
        for module in &apply.modules {
            if let Some(Err(why)) = module.config_schema.as_ref().map(|schema| compiled.get(schema)) {
                let document = format!("Module {}@{}", module.name, module.version);
                let defect = Defect::new("config_schema", format!("is no JSON Schema: {why}"), REMEDY);
                defects.push(defect.of(document));
            }
        }
        // One that is none was told of with its module, or registered by an earlier Sheaf, which did not look.
        let known = |(module, schema)| Some((module, compiled.get(schema).ok()?));
        let known: BTreeMap<&String, Arc<Validator>> = self.of.iter().filter_map(known).collect();
        for (index, module) in &self.buckets {
            let spec = &apply.buckets[*index].spec;
            if let Some(validator) = known.get(module) {
                let broken = violations(validator, &spec.config, module).into_iter();
                defects.extend(broken.map(|defect| defect.of(format!("Bucket {}", spec.name))));
            }
        }
        defects
    }
}

/// What to write instead of a schema that is none.
const REMEDY: &str = "a JSON Schema, complete in itself, like {type: object, required: [port]}";

/// Patterns are matched in time that grows with the text alone; nothing is fetched that a schema refers to.
fn compile(schema: &Json) -> Result<Validator, String> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_MAX);
    let schema = schema.value();
    jsonschema::options().with_pattern_options(patterns).offline().build(&schema).map_err(|error| {
        let place = place("", error.instance_path().as_str());
        let at = if place.is_empty() { String::new() } else { format!("{place}: ") };
        shortened(&format!("{at}{error}"))
    })
}

fn violations(validator: &Validator, config: &Json, module: &str) -> Vec<Defect> {
    let config = config.value();
    let mut errors = validator.iter_errors(&config);
    let remedy = format!("see config_schema of module {module}");
    let told = errors.by_ref().take(TOLD).map(|error| {
        let field = place("config", error.instance_path().as_str());
        Defect::new(field, shortened(&error.to_string()), remedy.clone())
    });
    let mut told: Vec<Defect> = told.collect();
    let more = errors.count();
    if more > 0 {
        told.push(Defect::new("config", format!("{more} more violations"), remedy));
    }
    told
}

/// A JSON pointer as fields are written here: `config.sources[2].port`.
fn place(root: &str, pointer: &str) -> String {
    pointer.split('/').skip(1).fold(root.to_owned(), |place, part| {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("{place}[{part}]")
        } else if place.is_empty() {
            part
        } else {
            format!("{place}.{part}")
        }
    })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sheaf_model::{
        BucketName, Exec, ModuleName, ModuleRef, ModuleVersion, Runtime, Template, TemplateSet,
    };

    use super::*;

    fn module(schema: &serde_json::Value) -> ModuleSpec {
        let name = ModuleName::new("m").expect("a name");
        let mut module = ModuleSpec::new(name, ModuleVersion::new("1").expect("a version"), Runtime::Exec);
        module.config_schema = Some(Json::new(schema));
        module
    }

    fn told(schema: &serde_json::Value, config: &serde_json::Value) -> Vec<String> {
        let reference = ModuleRef::parse("m@1").expect("a reference");
        let mut spec = BucketSpec::new(BucketName::new("/a").expect("a name"), reference);
        spec.config = Json::new(config);
        let put = PutBucket { spec, suspended: None, base: None, latest: false };
        let apply = Apply { modules: Vec::new(), buckets: vec![put] };
        let all = Schemas::of(&apply, &[Some(&module(schema))]).defects(&apply, &Compiled::default());
        all.into_iter().map(|it| format!("{} {}: {}", it.document, it.path, it.problem)).collect()
    }

    #[test]
    fn every_violation_is_told_with_its_path() {
        let schema = json!({
            "type": "object", "required": ["agent"], "additionalProperties": false,
            "properties": {
                "agent": {"type": "string", "pattern": "^a[0-9]+$"},
                "ports": {"type": "array", "items": {"type": "integer", "maximum": 65535}}
            }
        });
        assert_eq!(told(&schema, &json!({"agent": "a1", "ports": [1, 2]})), Vec::<String>::new());
        let all = told(&schema, &json!({"agent": "x", "ports": [1, "two", 70000], "colour": 1}));
        assert_eq!(all.len(), 4, "{all:#?}");
        for start in
            ["Bucket /a config.agent: ", "Bucket /a config.ports[1]: ", "Bucket /a config.ports[2]: "]
        {
            assert!(all.iter().any(|text| text.starts_with(start)), "{start} in {all:#?}");
        }
        assert!(all.iter().any(|text| text.contains("colour")), "{all:#?}");
        assert!(told(&schema, &json!({}))[0].contains("\"agent\" is a required property"));
    }

    #[test]
    fn a_schema_is_compiled_once_and_few_are_kept() {
        let compiled = Compiled::default();
        let of = |n: usize| Json::new(&json!({"type": "object", "maxProperties": n}));
        let get = |schema: &Json| compiled.get(schema).expect("a schema");
        let first = get(&of(0));
        assert!(Arc::ptr_eq(&first, &get(&of(0))));
        (1..=KEPT).for_each(|n| drop(get(&of(n))));
        assert!(!Arc::ptr_eq(&first, &get(&of(0))), "it was forgotten");
        assert!(compiled.kept.lock().expect("nobody panicked").len() <= KEPT);
        let long = Json::new(&json!({"description": "x".repeat(KEPT_BYTES)}));
        assert!(!Arc::ptr_eq(&get(&long), &get(&long)));
        assert!(compiled.get(&Json::new(&json!({"type": "objekt"}))).is_err());
    }

    #[test]
    fn what_is_null_is_told_once_where_the_module_names_it() {
        let template = |text| Template::parse(text, TemplateSet::Instance).expect("a template");
        let mut module = module(&json!({"properties": {"port": {"type": "integer"}}}));
        let args = vec![template("${bucket.config.port}"), template("${bucket.config.agent}")];
        module.exec = Some(Exec { command: template("/bin/true"), args, env: BTreeMap::new() });
        let reference = ModuleRef::parse("m@1").expect("a reference");
        let mut spec = BucketSpec::new(BucketName::new("/a").expect("a name"), reference);
        let mut told = |config: serde_json::Value| {
            spec.config = Json::new(&config);
            config_defects(&module, &spec)
        };
        assert_eq!(told(json!({"port": 1, "agent": "a1", "other": null})), []);
        let all = told(json!({"port": null, "agent": null}));
        let places: Vec<_> = all.iter().map(|it| (it.document.as_str(), it.path.as_str())).collect();
        assert_eq!(places, [("Bucket /a", "config.port"), ("Bucket /a", "config.agent")]);
        let said = "its value is null; module m@1 uses ${bucket.config.agent} in its args";
        assert_eq!((all[1].problem.as_str(), all[1].remedy.as_str()), (said, "set config.agent"));
    }

    #[test]
    fn a_long_list_of_violations_is_counted() {
        let schema = json!({"properties": {"list": {"items": {"type": "string"}}}});
        let all = told(&schema, &json!({"list": (0..60).collect::<Vec<u32>>()}));
        assert_eq!((all.len(), &*all[50]), (51, "Bucket /a config: 10 more violations"));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for (schema, what) in [
            (json!({"type": "objekt"}), "type: "),
            (json!({"properties": {"a": {"pattern": "(["}}}), "(["),
            (json!({"$ref": "https://example.com/schema.json"}), "example.com"),
            (json!({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}), "a{1000}"),
        ] {
            let apply = Apply { modules: vec![module(&schema)], buckets: Vec::new() };
            let all = Schemas::default().defects(&apply, &Compiled::default());
            assert_eq!(all.len(), 1, "{schema}");
            assert_eq!((&*all[0].document, &*all[0].path), ("Module m@1", "config_schema"));
            assert!(all[0].problem.contains(what), "{what} in {:?}", all[0]);
        }
    }
}
