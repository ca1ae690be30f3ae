//! Seldon's predictions over HTTP: passed on as they are, and translated where the model's server speaks TF Serving's
//! protocol or Open Inference.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

use super::answer::reply;
use super::request::request;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{SELDON, X_MODEL};
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::model::Model;
use crate::rest::model::index;
use crate::rest::model::seldon_wire::{PREDICT, count};
use crate::rest::tensors::json::{Reader, bad};
use crate::rest::tensors::signature::{Protocol, Signature};
use crate::rest::tensors::{Datatype, Elements, NotFinite, Strings, Tensor, Writer, string};
use crate::rest::web::reply::{Failed, Reply};

/// A request as far as it can be read without the model's signature.
#[derive(Default)]
struct Document<'a> {
    model: String,
    puid: String,
    data: Option<Data<'a>>,
}

enum Data<'a> {
    /// The lengths, and the text of the values.
    Tensor(Vec<usize>, &'a [u8]),
    Array(&'a [u8]),
    Text(String),
    Bytes(Vec<u8>),
}

/// Answer one prediction. One that names no model is for the only one.
///
/// # Errors
/// Those of the call; `bad_request` where the request does not map to the model's protocol.
pub async fn predict<F: Fn(Head, Body, Answer)>(
    caller: &mut Caller<F>,
    body: &[u8],
) -> Result<Reply, Failed> {
    let name = name_of(caller, body)?;
    match of_named(caller, &name, body).await {
        Err(failed) if name.is_empty() && failed.kind == Some(ErrorKind::BadRouteKey) => {
            let Some(only) = index::only(caller).await? else {
                return Err(failed);
            };
            caller.metadata.set(X_MODEL, &only);
            of_named(caller, &only, body).await
        }
        answered => answered,
    }
}

/// The model that a request names; empty where it names none.
fn name_of<F>(caller: &Caller<F>, body: &[u8]) -> Result<String, Error> {
    let mut named = [X_MODEL, SELDON].into_iter();
    let named = named.find_map(|name| caller.metadata.text(name));
    match named.unwrap_or_default() {
        // Most messages have no tags: they are not read twice.
        "" if body.windows(6).any(|it| it == b"\"tags\"") => Ok(Document::read(body)?.model),
        name => Ok(name.to_owned()),
    }
}

async fn of_named<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    name: &str,
    body: &[u8],
) -> Result<Reply, Failed> {
    let model = Model {
        name,
        version: "",
        label: "",
    };
    let key = model.key(caller);
    if !caller.known.lacks(&key, Protocol::Seldon) {
        let asked = caller.known.moment();
        let message = request(body)?;
        match caller.call(PREDICT, message).await {
            Err(failed) if failed.lacks_method() => {
                caller.known.note_lack(&key, Protocol::Seldon, asked);
            }
            answered => return Ok(reply(answered?)?),
        }
    }
    if name.is_empty() {
        let text = "the request names no model, and its server does not speak Seldon's protocol, which needs no name: send \
                    it as /seldon/NAMESPACE/MODEL/api/v1.0/predictions, in the header x-model, or as meta.tags.model";
        return Err(Error::new(ErrorKind::BadRouteKey, text).into());
    }
    let document = Document::read(body)?;
    let make = |signature: &Signature| Ok(vec![document.tensor(signature)?]);
    let outputs = model.predict(caller, "", make).await?;
    Ok(document.reply(outputs)?)
}

// === impl Document ===

impl<'a> Document<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut document = Self::default();
        let mut reader = Reader::new(body);
        reader.object(|reader, key| {
            let data = match key {
                "data" => return document.data(reader),
                "meta" => return document.meta(reader),
                "strData" => Data::Text(reader.string()?.into_owned()),
                "binData" => {
                    let bytes = BASE64.decode(reader.string()?.as_bytes());
                    Data::Bytes(bytes.map_err(|error| bad(format!("binData: {error}")))?)
                }
                _ => return reader.skip(),
            };
            document.data = Some(data);
            Ok(())
        })?;
        reader.end()?;
        Ok(document)
    }

    fn data(&mut self, reader: &mut Reader<'a>) -> Result<(), Error> {
        reader.object(|reader, key| match key {
            "ndarray" => {
                let place = reader.place();
                reader.skip()?;
                self.data = Some(Data::Array(reader.text_from(place)));
                Ok(())
            }
            "tensor" => {
                let (mut shape, mut values) = (Vec::new(), &b"[]"[..]);
                reader.object(|reader, key| match key {
                    "shape" => reader.array(|reader| {
                        let text = reader.number()?;
                        let length = text.parse();
                        shape.push(length.map_err(|_| bad(format!("{text} is no length")))?);
                        Ok(())
                    }),
                    _ => {
                        let place = reader.place();
                        reader.skip()?;
                        values = reader.text_from(place);
                        Ok(())
                    }
                })?;
                self.data = Some(Data::Tensor(shape, values));
                Ok(())
            }
            _ => reader.skip(),
        })
    }

    fn meta(&mut self, reader: &mut Reader<'a>) -> Result<(), Error> {
        reader.object(|reader, key| match key {
            "puid" => {
                self.puid = reader.string()?.into_owned();
                Ok(())
            }
            "tags" => reader.object(|reader, name| match (name, reader.kind()?) {
                ("model", crate::rest::tensors::json::Kind::String) => {
                    self.model = reader.string()?.into_owned();
                    Ok(())
                }
                _ => reader.skip(),
            }),
            _ => reader.skip(),
        })
    }

    /// The only input of a signature.
    fn tensor(&self, signature: &Signature) -> Result<Tensor, Error> {
        let [(name, datatype)] = &signature.inputs[..] else {
            let names = signature.inputs.iter().map(|(name, _)| name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(bad(match &names[..] {
                "" => "the model's server does not say what inputs it has, and Seldon's data has no name: call POST \
                       /v2/models/NAME/infer"
                    .to_owned(),
                _ => format!(
                    "the model takes {names}, and Seldon's data is one tensor: call POST /v2/models/NAME/infer or \
                     /v1/models/NAME:predict, which name each input"
                ),
            }));
        };
        let unfit = |what: &str| {
            let datatype = datatype.name();
            bad(format!("{what}, the model's input {name:?} is {datatype}"))
        };
        let (shape, raw) = match &self.data {
            Some(Data::Array(text)) => {
                let elements = Elements::read(&mut Reader::new(text), *datatype)?;
                (elements.shape().collect(), elements.raw)
            }
            Some(Data::Tensor(shape, text)) => {
                let elements = Elements::read(&mut Reader::new(text), *datatype)?;
                if count(shape) != Some(elements.count) {
                    return Err(bad(format!(
                        "tensor has {} values, which its shape {shape:?} has not",
                        elements.count
                    )));
                }
                (shape.clone(), elements.raw)
            }
            Some(Data::Text(_) | Data::Bytes(_)) if *datatype != Datatype::Bytes => {
                return Err(unfit(
                    "strData and binData are text and bytes: send data.tensor or data.ndarray",
                ));
            }
            Some(Data::Text(text)) => (vec![1], one(text.as_bytes())?),
            Some(Data::Bytes(bytes)) => (vec![1], one(bytes)?),
            None => {
                return Err(unfit(
                    "only data.tensor, data.ndarray, strData and binData can be made a tensor",
                ));
            }
        };
        Ok(Tensor {
            name: name.clone(),
            datatype: *datatype,
            shape,
            raw: raw.into(),
        })
    }

    /// The answer with the only output, in the form of the request.
    fn reply(&self, outputs: Vec<Tensor>) -> Result<Reply, Error> {
        let names: Vec<String> = outputs.iter().map(|it| it.name.clone()).collect();
        let Ok([output]) = <[Tensor; 1]>::try_from(outputs) else {
            return Err(bad(format!(
                "the model answers {}, and Seldon's data is one tensor: call POST /v2/models/NAME/infer or \
                 /v1/models/NAME:predict",
                names.join(", ")
            )));
        };
        let mut json = b"{\"data\":{\"names\":[],".to_vec();
        let mut writer = Writer::new(
            output.datatype,
            &output.raw,
            NotFinite::Quoted,
            Strings::Text,
        );
        // A tensor of Seldon's holds numbers.
        let is_number = !matches!(output.datatype, Datatype::Bytes | Datatype::Bool);
        if is_number && matches!(self.data, Some(Data::Tensor(..))) {
            json.extend_from_slice(b"\"tensor\":{\"shape\":");
            json.extend_from_slice(serde_json::json!(output.shape).to_string().as_bytes());
            json.extend_from_slice(b",\"values\":[");
            writer.rest(&mut json)?;
            json.extend_from_slice(b"]}");
        } else {
            json.extend_from_slice(b"\"ndarray\":");
            match &output.shape[..] {
                [] => writer.nested(&mut json, &[1])?,
                shape => writer.nested(&mut json, shape)?,
            }
        }
        json.extend_from_slice(b"},\"meta\":{");
        if !self.puid.is_empty() {
            json.extend_from_slice(b"\"puid\":");
            string(&mut json, &self.puid);
        }
        json.extend_from_slice(b"}}");
        Ok(Reply::of(json.into()))
    }
}

/// The raw form of one element of BYTES.
fn one(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(bytes.len());
    let length = length.map_err(|_| bad("what is so long is no BYTES".to_owned()))?;
    Ok([&length.to_le_bytes(), bytes].concat())
}
