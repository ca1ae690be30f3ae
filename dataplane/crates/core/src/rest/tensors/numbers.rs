//! Numbers of a model's answer, whatever their type.

use half::{bf16, f16};

use crate::error::{Error, ErrorKind};
use crate::rest::tensors::result::check_shape;
use crate::rest::tensors::{Datatype, Tensor};

/// The output of this name, or the only one that has another name than those that stand beside it.
pub fn named<'a>(outputs: &'a [Tensor], name: &str, beside: &[&str]) -> Option<&'a Tensor> {
    let own = outputs.iter().find(|output| output.name == name);
    let mut others = outputs
        .iter()
        .filter(|output| !beside.contains(&output.name.as_str()));
    own.or_else(|| others.next().filter(|_| others.next().is_none()))
}

/// The elements of an output as numbers.
///
/// # Errors
/// `bad_upstream_response`: they are bytes, or not as many as its shape says.
#[allow(clippy::cast_precision_loss)]
pub fn numbers(output: &Tensor) -> Result<Vec<f64>, Error> {
    check_shape(output)?;
    fn each<const N: usize>(raw: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        let (chunks, _) = raw.as_chunks::<N>();
        chunks.iter().map(|chunk| number(*chunk)).collect()
    }
    let raw = &output.raw;
    Ok(match output.datatype {
        Datatype::Bool | Datatype::Uint8 => each(raw, |[it]| it.into()),
        Datatype::Int8 => each(raw, |it| i8::from_le_bytes(it).into()),
        Datatype::Uint16 => each(raw, |it| u16::from_le_bytes(it).into()),
        Datatype::Int16 => each(raw, |it| i16::from_le_bytes(it).into()),
        Datatype::Uint32 => each(raw, |it| u32::from_le_bytes(it).into()),
        Datatype::Int32 => each(raw, |it| i32::from_le_bytes(it).into()),
        Datatype::Uint64 => each(raw, |it| u64::from_le_bytes(it) as f64),
        Datatype::Int64 => each(raw, |it| i64::from_le_bytes(it) as f64),
        Datatype::Fp16 => each(raw, |it| f16::from_le_bytes(it).into()),
        Datatype::Bf16 => each(raw, |it| bf16::from_le_bytes(it).into()),
        Datatype::Fp32 => each(raw, |it| f32::from_le_bytes(it).into()),
        Datatype::Fp64 => each(raw, f64::from_le_bytes),
        Datatype::Bytes => {
            let text = format!("output {:?} holds bytes, and no numbers", output.name);
            return Err(Error::new(ErrorKind::BadUpstreamResponse, text));
        }
    })
}

/// How many tokens the output `tokens` counts; 0 where there is none.
///
/// # Errors
/// `bad_upstream_response`: they are no numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn tokens(outputs: &[Tensor]) -> Result<u64, Error> {
    let Some(output) = outputs.iter().find(|output| output.name == TOKENS) else {
        return Ok(0);
    };
    Ok(numbers(output)?.iter().sum::<f64>() as u64)
}

/// The output that counts tokens.
pub const TOKENS: &str = "tokens";

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, datatype: Datatype, raw: &[u8]) -> Tensor {
        let shape = vec![raw.len() / datatype.size().max(1)];
        Tensor {
            name: name.to_owned(),
            datatype,
            shape,
            raw: raw.to_vec().into(),
        }
    }

    #[test]
    fn numbers_of_every_type_are_read() {
        use Datatype::*;
        let cases: [(Datatype, &[u8], f64); 13] = [
            (Bool, &[1], 1.0),
            (Uint8, &[255], 255.0),
            (Int8, &[255], -1.0),
            (Uint16, &[255, 255], 65535.0),
            (Int16, &[254, 255], -2.0),
            (Uint32, &[1, 0, 0, 0], 1.0),
            (Int32, &[255; 4], -1.0),
            (Uint64, &[2, 0, 0, 0, 0, 0, 0, 0], 2.0),
            (Int64, &[255; 8], -1.0),
            (Fp16, &[0, 0x3e], 1.5),
            (Bf16, &[0xc0, 0x3f], 1.5),
            (Fp32, &1.5f32.to_le_bytes(), 1.5),
            (Fp64, &1.5f64.to_le_bytes(), 1.5),
        ];
        for (datatype, raw, expected) in cases {
            assert_eq!(
                numbers(&output("x", datatype, raw)).unwrap(),
                [expected],
                "{datatype:?}"
            );
        }
        assert!(numbers(&Tensor::of_bytes("x", &["a"]).unwrap()).is_err());
        let mut wrong = output("x", Fp32, &[0; 4]);
        wrong.shape = vec![2];
        assert!(numbers(&wrong).is_err());
    }

    #[test]
    fn an_output_is_found_by_its_name_or_as_the_only_one() {
        let of = |names: &[&str]| {
            names
                .iter()
                .map(|it| output(it, Datatype::Uint8, &[3, 4]))
                .collect::<Vec<_>>()
        };
        let found =
            |names: &[&str]| named(&of(names), "embeddings", &[TOKENS]).map(|it| it.name.clone());
        assert_eq!(found(&["a", "embeddings"]).as_deref(), Some("embeddings"));
        assert_eq!(found(&["a", "tokens"]).as_deref(), Some("a"));
        assert_eq!(found(&["a", "b"]), None);
        assert_eq!(found(&["tokens"]), None);
        assert_eq!(
            (
                tokens(&of(&["tokens"])).unwrap(),
                tokens(&of(&["a"])).unwrap()
            ),
            (7, 0)
        );
    }
}
