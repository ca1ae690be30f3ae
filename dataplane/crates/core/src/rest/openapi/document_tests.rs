use http::StatusCode;

use super::*;
use crate::rest::openapi::ask::Field;
use crate::rest::tensors::Datatype::{Bytes, Fp32};

fn model(name: &str, protocol: Option<Protocol>, inputs: Vec<Field>) -> Model {
    Model {
        name: name.to_owned(),
        protocol,
        inputs,
        outputs: Vec::new(),
    }
}

fn field(name: &str, datatype: Datatype, shape: &[i64]) -> Field {
    Field::new(name.to_owned(), Some(datatype), Some(shape.to_vec())).unwrap()
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(document: &Value, at: &Value) {
        match at {
            Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                    let pointer = target.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{target}");
                }
                fields.values().for_each(|it| check(document, it));
            }
            Value::Array(items) => items.iter().for_each(|it| check(document, it)),
            _ => {}
        }
    }
    let models = [model("m", None, vec![field("x", Fp32, &[-1, 2])])];
    let document = of(&["m".to_owned()], &models);
    assert_eq!(document["openapi"], "3.1.0");
    check(&document, &document);
}

#[test]
fn a_model_has_its_inputs_as_schema_and_as_example() {
    let inputs = vec![field("x", Fp32, &[-1, 2]), field("y", Bytes, &[3])];
    let document = of(
        &[],
        &[model("a {b}", Some(Protocol::OpenInference), inputs)],
    );
    let infer = &document["paths"]["/v2/models/a%20%7Bb%7D/infer"]["post"];
    let content = &infer["requestBody"]["content"][JSON];
    let inputs = &content["schema"]["allOf"][1]["properties"]["inputs"];
    assert_eq!(inputs["minItems"], 2);
    let x = &inputs["items"]["anyOf"][0]["properties"];
    assert_eq!(x["name"], json!({"const": "x"}));
    assert_eq!(x["shape"]["minItems"], 2);
    let y = &inputs["items"]["anyOf"][1]["properties"];
    assert_eq!(y["shape"], json!({"const": [3]}));
    assert_eq!(content["example"]["inputs"][0]["data"], json!([0, 0]));
    let predict = &document["paths"]["/v1/models/a%20%7Bb%7D:predict"]["post"];
    let example = &predict["requestBody"]["content"][JSON]["example"];
    assert_eq!(example, &json!({"instances": [{"x": [0, 0], "y": "text"}]}));
}

#[test]
fn what_is_too_large_to_read_has_no_example() {
    let large = vec![field("x", Fp32, &[-1, 3, 224, 224])];
    let document = of(&[], &[model("m", None, large)]);
    let content = &document["paths"]["/v2/models/m/infer"]["post"]["requestBody"]["content"][JSON];
    assert_eq!(content["example"], Value::Null);
    assert!(content["schema"]["allOf"].is_array());
    assert_eq!(
        Field::new("x".to_owned(), Some(Fp32), Some(vec![1; 17])),
        None
    );
    assert_eq!(Field::new("x".repeat(257), Some(Fp32), None), None);
}

#[test]
fn every_status_of_a_problem_is_told() {
    let document = of(&[], &[]);
    let told = &document["components"]["schemas"]["Problem"]["properties"]["status"]["enum"];
    let told: Vec<_> = told.as_array().unwrap().iter().map(Value::as_u64).collect();
    let mut given: Vec<_> = crate::rest::web::reply::statuses();
    given.push(StatusCode::METHOD_NOT_ALLOWED);
    let mut given: Vec<_> = given.iter().map(|it| Some(it.as_u16().into())).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(told, given);
}
