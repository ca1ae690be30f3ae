//! Parameters beside the data of a request, from JSON objects of any depth.

use crate::error::Error;
use crate::local::messages::inference::InferParameter;
use crate::local::messages::inference::infer_parameter::ParameterChoice;
use crate::rest::tensors::json::{Kind, Reader, bad};
use std::collections::BTreeMap;

/// What goes beside the tensors of a request.
pub type Parameters = BTreeMap<String, InferParameter>;

/// Read the parameters that an object's fields are: arrays and objects are their JSON as text, null is none.
///
/// # Errors
/// `bad_request`.
pub fn read(reader: &mut Reader<'_>, parameters: &mut Parameters) -> Result<(), Error> {
    if reader.kind()? == Kind::Null {
        return reader.null();
    }
    reader.object(|reader, key| field(reader, key, parameters))
}

/// Read the parameter that one field is.
///
/// # Errors
/// `bad_request`.
pub fn field(
    reader: &mut Reader<'_>,
    name: &str,
    parameters: &mut Parameters,
) -> Result<(), Error> {
    let choice = match reader.kind()? {
        Kind::Bool => ParameterChoice::BoolParam(reader.bool()?),
        Kind::String => ParameterChoice::StringParam(reader.string()?.into_owned()),
        Kind::Number => number(reader.number()?)?,
        Kind::Null => return reader.null(),
        Kind::Array | Kind::Object => {
            let place = reader.place();
            reader.skip()?;
            ParameterChoice::StringParam(
                String::from_utf8_lossy(reader.text_from(place)).into_owned(),
            )
        }
    };
    add(parameters, name, choice)
}

/// Add one.
///
/// # Errors
/// `bad_request`: there is one of this name.
pub fn add(parameters: &mut Parameters, name: &str, choice: ParameterChoice) -> Result<(), Error> {
    let parameter_choice = Some(choice);
    match parameters.insert(name.to_owned(), InferParameter { parameter_choice }) {
        None => Ok(()),
        Some(_) => Err(bad(format!(
            "there are two parameters {name:?}: one is what the request says of its data"
        ))),
    }
}

/// A text as a parameter.
pub fn text(text: impl Into<String>) -> ParameterChoice {
    ParameterChoice::StringParam(text.into())
}

/// The parameter that a number becomes.
///
/// # Errors
/// `bad_request`.
pub fn number(text: &str) -> Result<ParameterChoice, Error> {
    if let Ok(value) = text.parse() {
        return Ok(ParameterChoice::Int64Param(value));
    }
    if let Ok(value) = text.parse() {
        return Ok(ParameterChoice::Uint64Param(value));
    }
    let value = text
        .parse()
        .map_err(|_| bad(format!("{text} is no number")))?;
    Ok(ParameterChoice::DoubleParam(value))
}
