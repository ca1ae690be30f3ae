use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto,
    ServiceDescriptorProto,
};

use super::*;
use crate::local::messages::reflection::ExtensionRequest;

fn field(name: &str) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(1),
        ..Default::default()
    }
}

fn an_enum(name: &str, value: &str) -> EnumDescriptorProto {
    let value = EnumValueDescriptorProto {
        name: Some(value.into()),
        ..Default::default()
    };
    EnumDescriptorProto {
        name: Some(name.into()),
        value: vec![value],
        ..Default::default()
    }
}

fn service(name: &str, method: &str) -> ServiceDescriptorProto {
    let method = MethodDescriptorProto {
        name: Some(method.into()),
        ..Default::default()
    };
    ServiceDescriptorProto {
        name: Some(name.into()),
        method: vec![method],
        ..Default::default()
    }
}

fn file(name: &str, package: &str, imports: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.into()),
        package: Some(package.into()),
        dependency: imports.iter().map(|&import| import.into()).collect(),
        ..Default::default()
    }
}

/// `top.proto` imports `middle.proto` and `base.proto`, `middle.proto` imports `base.proto`.
fn descriptor_set() -> FileDescriptorSet {
    let inner = DescriptorProto {
        name: Some("Inner".into()),
        field: vec![field("deep")],
        enum_type: vec![an_enum("Mode", "FAST")],
        ..Default::default()
    };
    let outer = DescriptorProto {
        name: Some("Outer".into()),
        field: vec![field("x")],
        nested_type: vec![inner],
        oneof_decl: vec![OneofDescriptorProto {
            name: Some("choice".into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let extension = FieldDescriptorProto {
        name: Some("extra".into()),
        number: Some(100),
        extendee: Some(".a.b.Outer".into()),
        ..Default::default()
    };
    FileDescriptorSet {
        file: vec![
            FileDescriptorProto {
                message_type: vec![outer],
                enum_type: vec![an_enum("Color", "RED")],
                ..file("base.proto", "a.b", &[])
            },
            FileDescriptorProto {
                extension: vec![extension],
                ..file("middle.proto", "m", &["base.proto"])
            },
            FileDescriptorProto {
                service: vec![service("Predictor", "Predict"), service("Hidden", "Call")],
                ..file("top.proto", "a.b", &["middle.proto", "base.proto"])
            },
            FileDescriptorProto {
                message_type: vec![DescriptorProto {
                    name: Some("Bare".into()),
                    ..Default::default()
                }],
                ..file("bare.proto", "", &[])
            },
        ],
    }
}

fn reflection() -> Reflection {
    Reflection::new(&descriptor_set().encode_to_vec(), &["a.b.Predictor"]).unwrap()
}

fn answer(reflection: &Reflection, request: &[u8]) -> Vec<u8> {
    let (mut message, files) = reflection.answer(request);
    message.extend_from_slice(&files);
    message
}

fn ask_of(reflection: &Reflection, query: Query) -> Answer {
    let request = ServerReflectionRequest {
        host: "here".into(),
        message_request: Some(query),
    };
    let response = answer(reflection, &request.encode_to_vec());
    let response = ServerReflectionResponse::decode(response.as_slice()).unwrap();
    assert_eq!(response.valid_host, "here");
    assert_eq!(response.original_request, Some(request));
    response.message_response.unwrap()
}

fn ask(query: Query) -> Answer {
    ask_of(&reflection(), query)
}

fn files(answer: Answer) -> Vec<Bytes> {
    match answer {
        Answer::FileDescriptorResponse(files) => files.file_descriptor_proto,
        other => panic!("{other:?}"),
    }
}

fn file_names(query: Query) -> Vec<String> {
    let files = files(ask(query)).into_iter();
    let decoded = files.map(|bytes| FileDescriptorProto::decode(bytes).unwrap());
    decoded.map(|file| file.name().to_owned()).collect()
}

fn code(answer: Answer) -> i32 {
    let Answer::ErrorResponse(failure) = answer else {
        panic!("{answer:?}")
    };
    failure.error_code
}

#[test]
fn only_services_that_are_offered_are_listed() {
    let Answer::ListServicesResponse(services) = ask(Query::ListServices(String::new())) else {
        panic!()
    };
    let names: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(names, ["a.b.Predictor"]);
}

#[test]
fn a_file_comes_with_everything_that_it_imports_once() {
    let names = file_names(Query::FileByFilename("top.proto".into()));
    assert_eq!(names, ["top.proto", "middle.proto", "base.proto"]);
}

#[test]
fn every_kind_of_symbol_leads_to_its_file() {
    for (symbol, expected) in [
        ("a.b.Predictor", "top.proto"),
        ("a.b.Predictor.Predict", "top.proto"),
        (".a.b.Predictor", "top.proto"),
        ("a.b.Outer", "base.proto"),
        ("a.b.Outer.x", "base.proto"),
        ("a.b.Outer.choice", "base.proto"),
        ("a.b.Outer.Inner", "base.proto"),
        ("a.b.Outer.Inner.deep", "base.proto"),
        ("a.b.Outer.Inner.Mode", "base.proto"),
        ("a.b.Outer.Inner.FAST", "base.proto"),
        ("a.b.Outer.Inner.Mode.FAST", "base.proto"),
        ("a.b.Color", "base.proto"),
        ("a.b.RED", "base.proto"),
        ("m.extra", "middle.proto"),
        ("Bare", "bare.proto"),
    ] {
        let names = file_names(Query::FileContainingSymbol(symbol.into()));
        assert_eq!(names[0], expected, "{symbol}");
    }
}

#[test]
fn what_is_not_known_is_not_found() {
    let not_found = Code::NotFound as i32;
    for symbol in ["a.b.Predictor.Nothing", "a.b", "", "."] {
        assert_eq!(
            code(ask(Query::FileContainingSymbol(symbol.into()))),
            not_found,
            "{symbol}"
        );
    }
    assert_eq!(
        code(ask(Query::FileByFilename("other.proto".into()))),
        not_found
    );
    assert_eq!(
        code(ask(Query::AllExtensionNumbersOfType("a.b.Other".into()))),
        not_found
    );
    let extension = ExtensionRequest {
        containing_type: "a.b.Outer".into(),
        extension_number: 7,
    };
    assert_eq!(
        code(ask(Query::FileContainingExtension(extension))),
        not_found
    );
}

#[test]
fn extensions_are_found_by_type_and_number() {
    let extension = ExtensionRequest {
        containing_type: "a.b.Outer".into(),
        extension_number: 100,
    };
    let names = file_names(Query::FileContainingExtension(extension));
    assert_eq!(names, ["middle.proto", "base.proto"]);
    for (message, expected) in [("a.b.Outer", vec![100]), ("Bare", vec![])] {
        let Answer::AllExtensionNumbersResponse(numbers) =
            ask(Query::AllExtensionNumbersOfType(message.into()))
        else {
            panic!()
        };
        assert_eq!(
            (numbers.base_type_name.as_str(), numbers.extension_number),
            (message, expected)
        );
    }
}

#[test]
fn a_request_that_does_not_parse_or_asks_for_nothing_is_an_invalid_argument() {
    for request in [b"\xff\xff".as_slice(), b"".as_slice()] {
        let response = answer(&reflection(), request);
        let response = ServerReflectionResponse::decode(response.as_slice()).unwrap();
        assert_eq!(
            code(response.message_response.unwrap()),
            Code::InvalidArgument as i32
        );
    }
}

#[test]
fn files_come_back_with_options_that_we_do_not_know() {
    let mut custom = file("custom.proto", "c", &[]).encode_to_vec();
    // FileOptions (8) with an option 50000 = 1 that only its own extension knows.
    custom.extend_from_slice(&[0x42, 0x04, 0x80, 0xb5, 0x18, 0x01]);
    let mut set = vec![0x0a, u8::try_from(custom.len()).unwrap()];
    set.extend_from_slice(&custom);
    let reflection = Reflection::new(&set, &[]).unwrap();
    let query = Query::FileByFilename("custom.proto".into());
    assert_eq!(files(ask_of(&reflection, query)), [custom]);
}

#[test]
fn a_set_that_lacks_an_import_or_a_service_is_refused_by_name() {
    let lacking = FileDescriptorSet {
        file: vec![file("a.proto", "a", &["b.proto"])],
    };
    let error = Reflection::new(&lacking.encode_to_vec(), &[]).unwrap_err();
    assert!(
        error.contains("b.proto") && error.contains("a.proto"),
        "{error}"
    );
    let error = Reflection::new(&descriptor_set().encode_to_vec(), &["a.b.Nobody"]).unwrap_err();
    assert!(error.contains("a.b.Nobody"), "{error}");
    assert!(Reflection::new(b"\xff", &[]).is_err());
}
