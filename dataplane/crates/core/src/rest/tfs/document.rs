//! TF Serving's JSON: rows (`instances`, `predictions`) and columns (`inputs`, `outputs`) of named tensors.

use crate::error::{Error, ErrorKind};
use crate::rest::tensors::Named;
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::tensors::{
    Datatype, Elements, NotFinite, Strings, Tensor, Writer, check_nesting, string,
};
use crate::rest::web::reply::Reply;

/// How the tensors of a request lie in its JSON, and those of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One value, or one object of values, for each example.
    Rows,
    /// One value, or one object of values, for all.
    Columns,
}

/// A request as far as it can be read without the model's signature.
#[derive(Debug)]
pub struct Document<'a> {
    /// Empty where none is named.
    pub signature: String,
    format: Format,
    /// The text of the tensors.
    tensors: &'a [u8],
}

// === impl Document ===

impl<'a> Document<'a> {
    /// # Errors
    /// `bad_request`.
    pub fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut signature = String::new();
        let mut found = None;
        let mut reader = Reader::new(body);
        reader.object(|reader, key| {
            let format = match key {
                "signature_name" => {
                    signature = reader.string()?.into_owned();
                    return Ok(());
                }
                "instances" => Format::Rows,
                "inputs" => Format::Columns,
                _ => return reader.skip(),
            };
            let place = reader.place();
            reader.skip()?;
            if found.replace((format, reader.text_from(place))).is_some() {
                return Err(bad(
                    "a request has instances or inputs, and not both".to_owned()
                ));
            }
            Ok(())
        })?;
        reader.end()?;
        let (format, tensors) =
            found.ok_or_else(|| bad("a request has instances, or inputs".to_owned()))?;
        Ok(Self {
            signature,
            format,
            tensors,
        })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Read the tensors, which are those of a signature.
    ///
    /// # Errors
    /// `bad_request`.
    pub fn tensors(&self, inputs: &[Named]) -> Result<Vec<Tensor>, Error> {
        let mut reader = Reader::new(self.tensors);
        let mut read: Vec<Elements> = inputs.iter().map(|_| Elements::default()).collect();
        let mut present = vec![0usize; inputs.len()];
        let level = usize::from(self.format == Format::Rows);
        let mut value = |reader: &mut Reader<'_>| -> Result<(), Error> {
            if !is_named(reader, inputs)? {
                let [(_, datatype)] = inputs else {
                    if inputs.is_empty() {
                        return Err(bad(
                            "the model's server does not say what inputs it has: call POST /v2/models/NAME/infer, \
                             which names them"
                                .to_owned(),
                        ));
                    }
                    let names = names(inputs);
                    return Err(reader.error(&format!("an object of the inputs {names}")));
                };
                present[0] += 1;
                return read[0].add(reader, *datatype, level);
            }
            reader.object(|reader, key| {
                let index = inputs.iter().position(|(name, _)| name == key);
                let index = index.ok_or_else(|| {
                    let names = names(inputs);
                    bad(format!("the model has no input {key:?}; it has {names}"))
                })?;
                present[index] += 1;
                read[index].add(reader, inputs[index].1, level)
            })
        };
        let mut rows = 1;
        if self.format == Format::Rows {
            rows = 0;
            reader.array(|reader| {
                rows += 1;
                value(reader)
            })?;
        } else {
            value(&mut reader)?;
        }
        let mut tensors = Vec::with_capacity(inputs.len());
        for ((mut elements, (name, datatype)), present) in read.into_iter().zip(inputs).zip(present)
        {
            match present {
                // TF Serving knows which inputs have a default.
                0 => continue,
                _ if present < rows => {
                    return Err(bad(format!(
                        "{} of {rows} instances have no {name}",
                        rows - present
                    )));
                }
                _ => {}
            }
            if self.format == Format::Rows {
                elements.close(rows);
            }
            tensors.push(Tensor {
                name: name.clone(),
                datatype: *datatype,
                shape: elements.shape().collect(),
                raw: elements.raw.into(),
            });
        }
        Ok(tensors)
    }
}

// === impl Document, for a model without a signature ===

impl Document<'_> {
    /// Read the only tensor, which may be named as it likes, and is of text, of true and false, or of doubles.
    ///
    /// # Errors
    /// `bad_request`.
    pub fn tensor(&self) -> Result<Vec<Tensor>, Error> {
        let mut names = Vec::new();
        let mut datatype = None;
        let mut reader = Reader::new(self.tensors);
        if self.format == Format::Rows {
            let mut is_first = true;
            reader.array(|reader| match std::mem::take(&mut is_first) {
                true => look(reader, &mut names, &mut datatype),
                false => reader.skip(),
            })?;
        } else {
            look(&mut reader, &mut names, &mut datatype)?;
        }
        if names.len() > 1 {
            return Err(bad(format!(
                "the model speaks Seldon's protocol, which takes one tensor; the request has {}: send one of them",
                names.join(", ")
            )));
        }
        let name = names.pop().unwrap_or_default();
        self.tensors(&[(name, datatype.unwrap_or(Datatype::Fp64))])
    }
}

/// Find the names of inputs, and what their first element is.
fn look(
    reader: &mut Reader<'_>,
    names: &mut Vec<String>,
    datatype: &mut Option<Datatype>,
) -> Result<(), Error> {
    match reader.kind()? {
        Kind::Object if reader.begins_with_key("b64") => {
            datatype.get_or_insert(Datatype::Bytes);
        }
        Kind::Object => {
            return reader.object(|reader, key| {
                names.push(key.to_owned());
                look(reader, names, datatype)
            });
        }
        Kind::Array => return reader.array(|reader| look(reader, names, datatype)),
        Kind::String => {
            datatype.get_or_insert(Datatype::Bytes);
        }
        Kind::Bool => {
            datatype.get_or_insert(Datatype::Bool);
        }
        Kind::Number | Kind::Null => {
            datatype.get_or_insert(Datatype::Fp64);
        }
    }
    reader.skip()
}

/// Whether the next value is an object of inputs, and no bytes.
fn is_named(reader: &mut Reader<'_>, inputs: &[Named]) -> Result<bool, Error> {
    if reader.kind()? != Kind::Object {
        return Ok(false);
    }
    let is_bytes = matches!(inputs, [(name, Datatype::Bytes)] if name != "b64");
    Ok(!(is_bytes && reader.begins_with_key("b64")))
}

fn names(inputs: &[Named]) -> String {
    let names: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

/// The answer that holds some outputs.
///
/// # Errors
/// `bad_upstream_response`; `bad_request` where JSON cannot say it.
pub fn reply(outputs: &[Tensor], format: Format) -> Result<Reply, Error> {
    let mut json = Vec::new();
    let mut writers: Vec<_> = outputs.iter().map(writer).collect();
    match format {
        Format::Columns => {
            json.extend_from_slice(b"{\"outputs\":");
            let shapes: Vec<&[usize]> = outputs.iter().map(|it| &it.shape[..]).collect();
            values(&mut json, outputs, &mut writers, &shapes)?;
        }
        Format::Rows => {
            let rows = rows(outputs)?;
            json.extend_from_slice(b"{\"predictions\":[");
            let shapes: Vec<&[usize]> = outputs.iter().map(|it| &it.shape[1..]).collect();
            for row in 0..rows {
                if row > 0 {
                    json.push(b',');
                }
                values(&mut json, outputs, &mut writers, &shapes)?;
            }
            json.push(b']');
        }
    }
    json.push(b'}');
    Ok(Reply::of(json.into()))
}

fn writer(output: &Tensor) -> Writer<'_> {
    // TF Serving's convention.
    let strings = match output.name.ends_with("_bytes") {
        true => Strings::Base64,
        false => Strings::Text,
    };
    Writer::new(output.datatype, &output.raw, NotFinite::Words, strings)
}

/// One value, or an object of them where there are several outputs.
fn values(
    json: &mut Vec<u8>,
    outputs: &[Tensor],
    writers: &mut [Writer<'_>],
    shapes: &[&[usize]],
) -> Result<(), Error> {
    if let [writer] = writers {
        return writer.nested(json, shapes[0]);
    }
    json.push(b'{');
    for (index, (output, writer)) in outputs.iter().zip(writers).enumerate() {
        if index > 0 {
            json.push(b',');
        }
        string(json, &output.name);
        json.push(b':');
        writer.nested(json, shapes[index])?;
    }
    json.push(b'}');
    Ok(())
}

/// How many rows all outputs have.
fn rows(outputs: &[Tensor]) -> Result<usize, Error> {
    let mut rows = None;
    for output in outputs {
        check_nesting(&output.shape)?;
        let length = output.shape.first().copied();
        if length.is_none() || rows.is_some_and(|rows| Some(rows) != length) {
            let text = format!(
                "output {:?} of shape {:?} has no row for each of the others': ask with inputs in place of instances",
                output.name, output.shape
            );
            return Err(Error::new(ErrorKind::BadRequest, text));
        }
        rows = length;
    }
    Ok(rows.unwrap_or(0))
}
