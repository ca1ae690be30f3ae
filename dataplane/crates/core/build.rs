//! Compiles the messages of the services that this program answers itself, and of those that it speaks HTTP for. Those of
//! calls of gRPC that pass through, or go to a model, are never decoded as a whole: nothing is compiled for them.

use std::path::Path;

const FILES: [&str; 10] = [
    "grpc/health/v1/health.proto",
    // v1alpha has the same messages.
    "grpc/reflection/v1/reflection.proto",
    "grpc_service.proto",
    "proto/prediction.proto",
    "tensorflow_serving/apis/classification.proto",
    "tensorflow_serving/apis/get_model_metadata.proto",
    "tensorflow_serving/apis/get_model_status.proto",
    "tensorflow_serving/apis/predict.proto",
    "tensorflow_serving/apis/regression.proto",
    // For the tests of the hand-written codec alone: a map of the compiled message allocates.
    "xds/data/orca/v3/orca_load_report.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../protos");
    println!("cargo::rerun-if-changed={}", protos.display());
    let descriptors = protox::compile(FILES, [&protos])?;
    prost_build::Config::new()
        // Shared by all answers, never copied.
        .bytes([
            ".grpc.reflection.v1.FileDescriptorResponse",
            ".inference.ModelInferRequest.raw_input_contents",
            ".inference.ModelInferResponse.raw_output_contents",
        ])
        // In JSON always in the same order.
        .btree_map([
            ".inference.ModelInferRequest",
            ".inference.ModelInferResponse",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
