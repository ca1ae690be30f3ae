//! The document: what is the same everywhere (`base.json`), the paths of any model, and those of each model.

use serde_json::{Map, Value, json};

use super::ask::{Field, Model, Protocol};
use super::schema;
use crate::rest::tensors::Datatype;

const BASE: &str = include_str!("base.json");
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// The document that names these models, and describes those.
pub fn of(names: &[String], models: &[Model]) -> Value {
    // A test reads it.
    let mut document: Value = serde_json::from_str(BASE).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let components = &mut document["components"];
    components["parameters"]["Model"]["schema"]["examples"] = json!(names);
    for schema in ["InferInput", "InferOutput"] {
        let datatypes = json!(Datatype::all().map(Datatype::name));
        components["schemas"][schema]["properties"]["datatype"]["enum"] = datatypes;
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        for version in ["", "/versions/{version}"] {
            open_inference(paths, "{model}", version, None);
        }
        for version in ["", "/versions/{version}", "/labels/{label}"] {
            tf_serving(paths, "{model}", version, None);
            predict(paths, "{model}", version, None);
        }
        for path in ["/api/v1.0/predictions", "/api/v0.1/predictions", "/predict"] {
            let mut item = seldon(path, "any model");
            item["parameters"] = json!([parameter("XModel")]);
            paths.insert(path.to_owned(), item);
        }
        seldon_of(paths, "{model}", None);
        for model in models {
            paths_of(paths, model);
        }
    }
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.extend(models.iter().map(tag));
    }
    document
}

/// The paths of a model, in the forms that its server speaks or that are translated for it.
fn paths_of(paths: &mut Map<String, Value>, model: &Model) {
    let name = encoded(&model.name);
    open_inference(paths, &name, "", Some(model));
    seldon_of(paths, &name, Some(model));
    // Status and signatures are not translated.
    if model.protocol != Some(Protocol::OpenInference) {
        tf_serving(paths, &name, "", Some(model));
    }
    predict(paths, &name, "", Some(model));
}

fn tag(model: &Model) -> Value {
    let list = |fields: &[Field]| -> Value {
        let fields = fields.iter().map(|field| {
            json!({"name": field.name, "datatype": field.datatype.name(), "shape": field.shape})
        });
        fields.collect()
    };
    json!({
        "name": model.name, "description": told(model),
        "x-inputs": list(&model.inputs), "x-outputs": list(&model.outputs),
    })
}

fn told(model: &Model) -> &'static str {
    match model.protocol {
        Some(Protocol::OpenInference) => "Speaks the Open Inference Protocol.",
        Some(Protocol::TensorFlow) => "Speaks TF Serving's protocol.",
        None => "It has not told what it takes.",
    }
}

fn open_inference(
    paths: &mut Map<String, Value>,
    name: &str,
    version: &str,
    model: Option<&Model>,
) {
    let at = format!("/v2/models/{name}{version}");
    let mut item = get(
        &at,
        "Inputs, outputs and versions",
        model,
        ok("ModelMetadata"),
    );
    finish(paths, at.clone(), &mut item);
    let ready = json!({"$ref": "#/components/responses/Ready"});
    let mut item = get(
        &format!("{at}/ready"),
        "Whether the model takes calls",
        model,
        ready,
    );
    item["get"]["responses"]["400"] = json!({"$ref": "#/components/responses/NotReady"});
    finish(paths, format!("{at}/ready"), &mut item);
    let (mut request, mut response) = (reference("InferRequest"), reference("InferResponse"));
    let mut example = None;
    if let Some(model) = model.filter(|model| !model.inputs.is_empty()) {
        let inputs: Vec<_> = model.inputs.iter().map(schema::input).collect();
        let items = json!({
            "type": "array", "items": any(inputs),
            "minItems": model.inputs.len(), "maxItems": model.inputs.len(),
        });
        request = json!({"allOf": [request, {"properties": {"inputs": items}}]});
        let inputs: Option<Vec<_>> = model.inputs.iter().map(schema::example).collect();
        example = inputs.map(|inputs| json!({"inputs": inputs}));
    }
    if let Some(model) = model.filter(|model| !model.outputs.is_empty()) {
        let outputs: Vec<_> = model.outputs.iter().map(schema::output).collect();
        let items = json!({"type": "array", "items": any(outputs)});
        response = json!({"allOf": [response, {"properties": {"outputs": items}}]});
    }
    let at = format!("{at}/infer");
    let mut item = post(
        &at,
        "Predict: Open Inference Protocol",
        model,
        request,
        response,
        example,
    );
    // Tensors as binary data behind the JSON.
    item["post"]["requestBody"]["content"][OCTETS] = json!({});
    item["post"]["responses"]["200"]["content"][OCTETS] = json!({});
    item["post"]["parameters"] = json!([{
        "name": "inference-header-content-length", "in": "header",
        "description": "Length of the JSON in front of binary data.",
        "schema": {"type": "integer", "minimum": 0},
    }]);
    finish(paths, at, &mut item);
}

fn tf_serving(paths: &mut Map<String, Value>, name: &str, version: &str, model: Option<&Model>) {
    let at = format!("/v1/models/{name}{version}");
    let mut item = get(&at, "States of the versions", model, ok("ModelStatus"));
    finish(paths, at.clone(), &mut item);
    let mut item = get(
        &format!("{at}/metadata"),
        "Signatures",
        model,
        ok("Signatures"),
    );
    finish(paths, format!("{at}/metadata"), &mut item);
}

/// TF Serving's `:predict`, which models of the Open Inference Protocol answer, too.
fn predict(paths: &mut Map<String, Value>, name: &str, version: &str, model: Option<&Model>) {
    let (mut request, mut example) = (reference("PredictRequest"), None);
    if let Some(model) = model.filter(|model| !model.inputs.is_empty()) {
        let fields = json!({"instances": {"items": values(model, 1)}, "inputs": values(model, 0)});
        request = json!({"allOf": [request, {"properties": fields}]});
        let rows = model
            .inputs
            .iter()
            .map(|field| Some((field.name.clone(), schema::example_value(field, 1)?)));
        let row: Option<Map<_, _>> = rows.collect();
        example = row.map(|row| json!({"instances": [row]}));
    }
    let at = format!("/v1/models/{name}{version}:predict");
    let response = reference("PredictResponse");
    let mut item = post(
        &at,
        "Predict: TF Serving",
        model,
        request,
        response,
        example,
    );
    finish(paths, at, &mut item);
}

/// All inputs by name; or the only one by itself.
fn values(model: &Model, skip: usize) -> Value {
    let fields = model.inputs.iter();
    let fields = fields.map(|field| (field.name.clone(), schema::value(field, skip)));
    let named = json!({"type": "object", "properties": fields.collect::<Map<_, _>>()});
    match &model.inputs[..] {
        [field] => any(vec![schema::value(field, skip), named]),
        _ => named,
    }
}

fn seldon_of(paths: &mut Map<String, Value>, name: &str, model: Option<&Model>) {
    let at = format!("/seldon/{{namespace}}/{name}/api/v1.0/predictions");
    let mut item = seldon(&at, model.map_or("any model", |model| &model.name));
    finish(paths, at, &mut item);
}

fn seldon(at: &str, tag: &str) -> Value {
    let message = reference("SeldonMessage");
    let example = json!({"data": {"ndarray": [[0]]}});
    let mut item = post(
        at,
        "Predict: Seldon",
        None,
        message.clone(),
        message,
        Some(example),
    );
    item["post"]["tags"] = json!([tag]);
    item
}

/// Put an item where it belongs, with the parameters that its path has.
fn finish(paths: &mut Map<String, Value>, at: String, item: &mut Value) {
    let known = [
        ("model", "Model"),
        ("version", "Version"),
        ("label", "Label"),
        ("namespace", "Namespace"),
    ];
    let has = |name: &str| at.contains(&format!("{{{name}}}"));
    let parameters = known.iter().filter(|(name, _)| has(name));
    let parameters: Vec<_> = parameters.map(|(_, name)| parameter(name)).collect();
    if !parameters.is_empty() {
        item["parameters"] = parameters.into();
    }
    paths.insert(at, item.take());
}

fn get(at: &str, summary: &str, model: Option<&Model>, response: Value) -> Value {
    json!({"get": operation("get", at, summary, model, response)})
}

fn post(
    at: &str,
    summary: &str,
    model: Option<&Model>,
    request: Value,
    response: Value,
    example: Option<Value>,
) -> Value {
    let response = json!({"description": "The answer.", "content": {JSON: {"schema": response}}});
    let mut operation = operation("post", at, summary, model, response);
    operation["requestBody"] = json!({"required": true, "content": {JSON: {"schema": request}}});
    if let Some(example) = example {
        operation["requestBody"]["content"][JSON]["example"] = example;
    }
    json!({"post": operation})
}

fn operation(verb: &str, at: &str, summary: &str, model: Option<&Model>, response: Value) -> Value {
    let problem = json!({"$ref": "#/components/responses/Problem"});
    json!({
        "operationId": format!("{verb} {at}"),
        "summary": summary,
        "tags": [model.map_or("any model", |model| &model.name)],
        "responses": {"200": response, "4XX": problem, "5XX": problem},
    })
}

fn ok(schema: &str) -> Value {
    json!({"description": "The answer.", "content": {JSON: {"schema": reference(schema)}}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn parameter(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

fn any(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({"anyOf": schemas}),
    }
}

/// A name as a part of a path: all but RFC 3986's unreserved characters in `%` escapes, braces above all.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
