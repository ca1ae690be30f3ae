//! Calls the access service with tonic and the messages of protos/. What is expected stands in
//! tests/interop/test_node_and_tonic.py; grpc_js_peer.js does the same.
//!
//! Each line of standard input is SCENARIO ADDRESS [ARGUMENT...]; what it found is printed as `found` and JSON, when its
//! connections are closed.

use std::time::{Duration, Instant};

use protos::com::bj58::ailab::dlpredictonline::grpc::wpai_dl_predict_online_service_client::WpaiDlPredictOnlineServiceClient as OwnClient;
use protos::grpc::health::v1::HealthCheckRequest;
use protos::grpc::health::v1::health_client::HealthClient;
use protos::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use protos::inference::model_infer_request::InferInputTensor;
use protos::inference::{ModelInferRequest, ModelInferResponse};
use protos::seldon::protos as seldon;
use protos::tensorflow::serving::prediction_service_client::PredictionServiceClient;
use protos::tensorflow::serving::{
    GetModelMetadataRequest, ModelSpec, PredictRequest, PredictResponse,
};
use protos::tensorflow::{DataType, TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status};

#[allow(dead_code, clippy::all)]
mod protos {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

type Inference = GrpcInferenceServiceClient<Channel>;
type Failure = Box<dyn std::error::Error>;
type Found = Result<Value, Failure>;

/// What makes another of the service's models of the request.
#[derive(Clone, Copy)]
struct Model(&'static str);

const M: Model = Model("m");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    while let Some(line) = told().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [scenario, address, words @ ..] = words.as_slice() else {
            return Err("SCENARIO ADDRESS [ARGUMENT...]".into());
        };
        println!("found {}", find(scenario, address, words).await?);
    }
    Ok(())
}

async fn find(scenario: &str, address: &str, words: &[&str]) -> Found {
    match scenario {
        "protocols" => protocols(address).await,
        "streams" => streams(address).await,
        "watch" => watch(address, words[0]).await,
        "slow_reader" => slow_reader(address).await,
        "cancels" => cancels(address).await,
        "deadlines" => deadlines(address).await,
        "sizes" => sizes(address, words).await,
        "metadata" => metadata(address).await,
        "long_metadata" => long_metadata(address).await,
        "settings" => settings(address, words).await,
        "concurrent" => concurrent(address, words[0].parse()?).await,
        "gzip" => gzip(address).await,
        "targets" => targets(address, words).await,
        "tls" => tls(address, words[0]).await,
        "ages" => ages(address, words[0].parse()?).await,
        _ => Err("no such scenario".into()),
    }
}

// === means ===

fn endpoint(address: &str) -> Result<Endpoint, Failure> {
    let is_named = address.starts_with("unix:");
    let uri = if is_named {
        address.into()
    } else {
        format!("http://{address}")
    };
    Ok(Endpoint::from_shared(uri)?)
}

async fn connect(address: &str) -> Result<Channel, Failure> {
    Ok(endpoint(address)?.connect().await?)
}

fn inference(channel: Channel) -> Inference {
    GrpcInferenceServiceClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

/// Byte i is i * 31 + i / 256 * 7; the tests know it, too.
fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at.wrapping_mul(31).wrapping_add((at >> 8) * 7)) as u8)
        .collect()
}

fn infer(Model(model): Model, id: impl ToString, data: Vec<u8>) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "UINT8".into(),
        shape: vec![data.len() as i64],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: model.into(),
        id: id.to_string(),
        inputs: vec![input],
        raw_input_contents: vec![data],
        ..Default::default()
    }
}

fn small(model: Model) -> ModelInferRequest {
    infer(model, 7, vec![1, 2])
}

fn failed(status: &Status) -> Value {
    json!([status.code() as i32, status.message()])
}

/// The bytes of the answer, or code and text of the error.
fn bytes(answer: Result<Response<ModelInferResponse>, Status>) -> Value {
    match answer {
        Ok(answer) => json!(answer.into_inner().raw_output_contents[0]),
        Err(status) => failed(&status),
    }
}

fn is_same(answer: &Result<Response<ModelInferResponse>, Status>, data: &[u8]) -> bool {
    answer
        .as_ref()
        .is_ok_and(|answer| answer.get_ref().raw_output_contents[0] == data)
}

/// The next line of standard input, while there is one.
async fn told() -> Result<Option<String>, Failure> {
    let read = || std::io::stdin().lines().next().transpose();
    Ok(tokio::task::spawn_blocking(read).await??)
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Vec<&'a str> {
    metadata
        .get_all(key)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect()
}

// === scenarios ===

async fn protocols(address: &str) -> Found {
    let channel = connect(address).await?;
    let mut tfs = PredictionServiceClient::new(channel.clone());
    let mut own = OwnClient::new(channel.clone());
    let mut oip = inference(channel.clone());
    let mut seldon_client = seldon::seldon_client::SeldonClient::new(channel.clone());
    let spec = |name: &str| {
        Some(ModelSpec {
            name: name.into(),
            ..Default::default()
        })
    };
    let predict = |name: &str| {
        let dim = vec![Dim {
            size: 2,
            ..Default::default()
        }];
        let x = TensorProto {
            dtype: DataType::DtFloat as i32,
            tensor_shape: Some(TensorShapeProto {
                dim,
                ..Default::default()
            }),
            float_val: vec![1.5, 2.5],
            ..Default::default()
        };
        PredictRequest {
            model_spec: spec(name),
            inputs: [("x".into(), x)].into(),
            ..Default::default()
        }
    };
    let doubled = |answer: PredictResponse| {
        json!([
            answer.outputs["y"].float_val,
            answer.model_spec.map(|spec| spec.name)
        ])
    };
    let message = |key: &str, kind| {
        let tensor = seldon::Tensor {
            shape: vec![2],
            values: vec![1.5, 2.5],
        };
        let tags = [(key.to_string(), prost_types::Value { kind: Some(kind) })].into();
        seldon::SeldonMessage {
            meta: Some(seldon::Meta {
                tags,
                ..Default::default()
            }),
            data_oneof: Some(seldon::seldon_message::DataOneof::Data(
                seldon::DefaultData {
                    data_oneof: Some(seldon::default_data::DataOneof::Tensor(tensor)),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }
    };
    let values = |answer: seldon::SeldonMessage| match answer.data_oneof {
        Some(seldon::seldon_message::DataOneof::Data(data)) => match data.data_oneof {
            Some(seldon::default_data::DataOneof::Tensor(tensor)) => json!(tensor.values),
            _ => Value::Null,
        },
        _ => Value::Null,
    };
    let mut named = Request::new(predict("stranger"));
    named
        .metadata_mut()
        .insert("x-request-id", MetadataValue::from_static("from-here"));
    let stranger = tfs
        .predict(named)
        .await
        .err()
        .ok_or("a stranger is served")?;
    let about = GetModelMetadataRequest {
        model_spec: spec("m"),
        metadata_field: vec!["signature_def".into()],
    };
    let signatures = tfs
        .get_model_metadata(about)
        .await?
        .into_inner()
        .metadata
        .remove("signature_def");
    let signatures = signatures.ok_or("no signatures")?;
    let method = b"tensorflow/serving/predict";
    let by_name = message("model", prost_types::value::Kind::StringValue("m".into()));
    let by_task = message("taskId", prost_types::value::Kind::NumberValue(39.0));
    let check = HealthCheckRequest {
        service: "m".into(),
    };
    let health = HealthClient::new(channel).check(check).await?.into_inner();
    Ok(json!({
        "tfs": doubled(tfs.predict(predict("m")).await?.into_inner()),
        "dl_inference tfs": doubled(own.predict(predict("m")).await?.into_inner()),
        "signatures": [
            signatures.type_url,
            signatures.value.windows(method.len()).any(|part| part == method),
        ],
        "seldon": values(seldon_client.predict(by_name).await?.into_inner()),
        "dl_inference seldon": values(own.pytorch_predict(by_task).await?.into_inner()),
        "oip": bytes(oip.model_infer(small(M)).await),
        "dl_inference oip": bytes(own.tis_predict(small(M)).await),
        "health": health.status().as_str_name(),
        "stranger": [
            stranger.code() as i32,
            stranger.message(),
            text(stranger.metadata(), "access-error")[0],
            text(stranger.metadata(), "x-request-id")[0],
        ],
        "broken": tfs.predict(predict("broken")).await.err().map(|status| failed(&status)),
        "failing": bytes(oip.model_infer(small(Model("broken"))).await),
    }))
}

/// Sends the next message when the last one is answered.
async fn streams(address: &str) -> Found {
    let client = inference(connect(address).await?);
    let whole = talk(client.clone(), &[M; 50]).await?;
    Ok(json!({"whole": whole, "failing": talk(client, &[M, M, Model("broken")]).await?}))
}

async fn talk(mut client: Inference, models: &[Model]) -> Found {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut ids = Vec::new();
    sender.send(infer(models[0], 0, vec![1, 2]))?;
    let mut sender = Some(sender);
    let mut answers = client
        .model_stream_infer(UnboundedReceiverStream::new(receiver))
        .await?
        .into_inner();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                ids.push(answer.infer_response.ok_or("an empty answer")?.id);
                match models.get(ids.len()) {
                    Some(&model) => {
                        sender
                            .as_ref()
                            .ok_or("ended")?
                            .send(infer(model, ids.len(), vec![1, 2]))?
                    }
                    None => sender = None,
                }
            }
            Ok(None) => return Ok(json!([ids, 0, ""])),
            Err(status) => return Ok(json!([ids, status.code() as i32, status.message()])),
        }
    }
}

async fn watch(address: &str, service: &str) -> Found {
    let mut client = HealthClient::new(connect(address).await?);
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let mut states = client.watch(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(state) = states.message().await? {
        let name = state.status().as_str_name();
        println!("state {name}");
        found.push(name);
        if name == "SERVING" {
            break;
        }
    }
    Ok(json!(found))
}

async fn slow_reader(address: &str) -> Found {
    let mut client = inference(connect(address).await?);
    let request = tokio_stream::iter([small(Model("many"))]);
    let mut stream = client.model_stream_infer(request).await?.into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await? {
        let data = answer
            .infer_response
            .ok_or("an empty answer")?
            .raw_output_contents
            .swap_remove(0);
        let is_one = data.iter().all(|each| *each == data[0]);
        answers.push(json!([data.len(), is_one.then_some(data[0])]));
        if answers.len() == 1 {
            println!("paused");
            told().await?;
        }
    }
    Ok(json!({"code": 0, "answers": answers}))
}

async fn cancels(address: &str) -> Found {
    let mut client = inference(connect(address).await?);
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.model_infer(small(Model("dropped"))).await });
    println!("called");
    told().await?;
    waiting.abort();
    let is_dropped = waiting.await.is_err_and(|error| error.is_cancelled());
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(small(Model("cut")))?;
    let mut stream = client
        .model_stream_infer(UnboundedReceiverStream::new(receiver))
        .await?
        .into_inner();
    let first = stream.message().await?;
    drop(stream);
    let after = bytes(client.model_infer(small(M)).await);
    // Who drops a call is told no code.
    Ok(json!({"unary": is_dropped, "stream": first.is_some(), "after": after}))
}

async fn deadlines(address: &str) -> Found {
    let client = inference(connect(address).await?);
    let within = |ms, model| {
        let mut client = client.clone();
        let mut request = Request::new(small(model));
        request.set_timeout(Duration::from_millis(ms));
        async move { client.model_infer(request).await }
    };
    let passed = within(300, Model("slow"))
        .await
        .err()
        .map(|status| status.code() as i32);
    let service = bytes(within(20_000, Model("short")).await);
    Ok(json!({"passed": passed, "service": service, "after": bytes(within(30_000, M).await)}))
}

async fn sizes(address: &str, sizes: &[&str]) -> Found {
    let mut client = inference(connect(address).await?);
    let mut same = Vec::new();
    for size in sizes {
        let data = content(size.parse()?);
        let answer = client.model_infer(infer(M, 7, data.clone())).await;
        same.push(json!([data.len(), is_same(&answer, &data)]));
    }
    let request = bytes(client.model_infer(infer(M, 7, vec![0; 17_000_000])).await);
    let answer = bytes(client.model_infer(small(Model("wide"))).await);
    Ok(json!({
        "same": same, "request": request, "answer": answer, "after": bytes(client.model_infer(small(M)).await),
    }))
}

async fn metadata(address: &str) -> Found {
    let mut client = inference(connect(address).await?);
    let binary: Vec<u8> = (0..=255).collect();
    let seen = |metadata: &MetadataMap| {
        let raw = metadata.get_all_bin("x-say-raw-bin");
        json!({
            "text": text(metadata, "x-say-text").iter().map(|each| each.len()).collect::<Vec<_>>(),
            "twice": text(metadata, "x-say-twice"),
            "binary": raw.iter().map(|each| each.to_bytes().is_ok_and(|each| each == binary)).collect::<Vec<_>>(),
        })
    };
    // A stream: of a call with one answer tonic shows headers and trailers as one.
    let mut given = Request::new(tokio_stream::iter([small(M)]));
    let map = given.metadata_mut();
    map.append("x-say-text", "t".repeat(4000).parse()?);
    map.append("x-say-twice", "one".parse()?);
    map.append("x-say-twice", "two".parse()?);
    map.append_bin("x-say-raw-bin", MetadataValue::from_bytes(&binary));
    let answer = client.model_stream_infer(given).await?;
    let first = seen(answer.metadata());
    let mut stream = answer.into_inner();
    let message = stream
        .message()
        .await?
        .and_then(|each| each.infer_response)
        .ok_or("no answer")?;
    let last = seen(&stream.trailers().await?.ok_or("no trailers")?);
    let mut fields = Request::new(small(M));
    for number in 0..200 {
        let key = tonic::metadata::MetadataKey::from_bytes(format!("x-{number}").as_bytes())?;
        fields.metadata_mut().insert(key, "v".parse()?);
    }
    Ok(json!({
        "answer": message.raw_output_contents[0],
        "first": first,
        "last": last,
        "fields": bytes(client.model_infer(fields).await),
        "after": bytes(client.model_infer(small(M)).await),
    }))
}

async fn long_metadata(address: &str) -> Found {
    let mut client = inference(connect(address).await?);
    let mut long = Request::new(small(M));
    long.metadata_mut()
        .insert("x-long", "l".repeat(20_000).parse()?);
    let long = bytes(client.model_infer(long).await);
    Ok(json!({"long": long, "after": bytes(client.model_infer(small(M)).await)}))
}

/// Each argument is a window, a header table's size, and a content's, with a colon between; by connections of their own.
async fn settings(address: &str, words: &[&str]) -> Found {
    let mut same = Vec::new();
    for word in words {
        let numbers = word
            .split(':')
            .map(str::parse)
            .collect::<Result<Vec<u32>, _>>()?;
        let [window, table, size] = numbers[..] else {
            return Err("WINDOW:TABLE:SIZE".into());
        };
        let channel = endpoint(address)?
            .initial_stream_window_size(window)
            .initial_connection_window_size(window.max(65_535))
            .http2_header_table_size(table)
            .connect()
            .await?;
        let mut client = inference(channel);
        let data = content(size as usize);
        let mut good = 0;
        for number in 0..3 {
            let mut request = Request::new(infer(M, 7, data.clone()));
            // One that stays, and one that pushes the others out of the table.
            let (stays, pushes) = ("s".repeat(40), number.to_string().repeat(3000));
            request.metadata_mut().insert("x-say-same", stays.parse()?);
            request
                .metadata_mut()
                .insert("x-say-other", pushes.parse()?);
            let answer = client.model_infer(request).await;
            let is_said = answer.as_ref().is_ok_and(|answer| {
                text(answer.metadata(), "x-say-same") == [stays]
                    && text(answer.metadata(), "x-say-other") == [pushes]
            });
            good += u32::from(is_said && is_same(&answer, &data));
        }
        same.push(good);
    }
    Ok(json!(same))
}

async fn concurrent(address: &str, count: usize) -> Found {
    let client = inference(connect(address).await?);
    let mut calls = JoinSet::new();
    for number in 0..count {
        let mut client = client.clone();
        calls.spawn(async move {
            let data = content(1000 + number);
            let answer = client
                .model_infer(infer(Model("together"), number, data.clone()))
                .await;
            is_same(&answer, &data)
                && answer.is_ok_and(|answer| answer.get_ref().id == number.to_string())
        });
    }
    Ok(json!(
        calls
            .join_all()
            .await
            .into_iter()
            .filter(|is_good| *is_good)
            .count()
    ))
}

/// Sends and takes compressed messages; the other way round they pass as they are.
async fn gzip(address: &str) -> Found {
    let channel = connect(address).await?;
    let data = b"abc"
        .iter()
        .copied()
        .cycle()
        .take(1_000_000)
        .collect::<Vec<u8>>();
    let mut packed = inference(channel.clone()).send_compressed(CompressionEncoding::Gzip);
    let mut plain = inference(channel).accept_compressed(CompressionEncoding::Gzip);
    let sent = packed
        .model_infer(infer(Model("sent"), 7, data.clone()))
        .await;
    let taken = plain
        .model_infer(infer(Model("taken"), 7, data.clone()))
        .await;
    Ok(json!([is_same(&sent, &data), is_same(&taken, &data)]))
}

/// Every argument is one more target; one with commas is a list, all of which are called.
async fn targets(address: &str, words: &[&str]) -> Found {
    let mut answers = Vec::new();
    for target in std::iter::once(address).chain(words.iter().copied()) {
        let channel = if target.contains(',') {
            let all = target
                .split(',')
                .map(endpoint)
                .collect::<Result<Vec<_>, _>>()?;
            Channel::balance_list(all.into_iter())
        } else {
            connect(target).await?
        };
        answers.push(bytes(inference(channel).model_infer(small(M)).await));
    }
    Ok(json!(answers))
}

async fn tls(address: &str, root: &str) -> Found {
    let open = |config| -> Result<Inference, Failure> {
        let channel = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(config)?
            .connect_lazy();
        Ok(inference(channel))
    };
    let authority = Certificate::from_pem(std::fs::read(root)?);
    let data = content(1_000_000);
    let same = open(ClientTlsConfig::new().ca_certificate(authority))?
        .model_infer(infer(M, 7, data.clone()))
        .await;
    let untrusted = open(ClientTlsConfig::new())?.model_infer(small(M)).await;
    let code = untrusted.err().map(|status| status.code() as i32);
    Ok(json!({"same": is_same(&same, &data), "untrusted": code}))
}

/// Calls, four at a time, for that many milliseconds, while the service closes aged connections.
async fn ages(address: &str, ms: u64) -> Found {
    let client = inference(connect(address).await?);
    let end = Instant::now() + Duration::from_millis(ms);
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let mut client = client.clone();
        callers.spawn(async move {
            let (mut count, mut bad) = (0, Vec::new());
            while Instant::now() < end {
                count += 1;
                if let Err(status) = client.model_infer(small(M)).await {
                    bad.push(failed(&status));
                }
            }
            (count, bad)
        });
    }
    let (counts, bad): (Vec<u32>, Vec<_>) = callers.join_all().await.into_iter().unzip();
    Ok(json!({"count": counts.iter().sum::<u32>(), "bad": bad.concat()}))
}
