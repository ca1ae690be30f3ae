//! Which requests may be joined, as far as the front can tell: those of one group have the same names, types, shapes but
//! for the first axis, and tags. A hint: Python compares what it joins itself.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::codec::{DType, Meta, Payload, TfTensor, Value};
use crate::config::Alike;

/// The group of a request. What it costs grows with names, tags and axes, and not with the data.
pub fn group(payload: &Payload, meta: &Meta, alike: Alike, pad_axis: Option<usize>) -> u64 {
    if alike == Alike::All {
        return 0;
    }
    let mut hasher = FxHasher::default();
    matches!(payload, Payload::Infer(_)).hash(&mut hasher);
    let tags = meta.fields.iter().find(|(name, _)| name == "tags");
    tags.map(|(_, tags)| hash_of(tags)).hash(&mut hasher);
    if alike == Alike::Shapes {
        describe(payload, pad_axis, &mut hasher);
    }
    hasher.finish()
}

/// Seldon's kinds of numbers become the same arrays, so the kind is told only where there are no numbers.
fn describe(payload: &Payload, pad_axis: Option<usize>, hasher: &mut FxHasher) {
    match payload {
        Payload::Tensor(tensor) => array(DType::Double, &tensor.shape, pad_axis, hasher),
        Payload::TfTensor(tensor) => tf_tensor(tensor, pad_axis, hasher),
        // A single input may have any name.
        Payload::Infer(inputs) if inputs.len() == 1 => tf_tensor(&inputs[0].1, pad_axis, hasher),
        Payload::Infer(inputs) => {
            for (name, tensor) in inputs {
                name.hash(hasher);
                tf_tensor(tensor, pad_axis, hasher);
            }
        }
        Payload::NdArray(values) => {
            let mut shape = vec![values.len()];
            let mut first = values.first();
            while let Some(Value::List(inner)) = first {
                shape.push(inner.len());
                first = inner.first();
            }
            match first {
                Some(Value::Number(_)) | None => array(DType::Double, &shape, pad_axis, hasher),
                Some(_) => payload.kind().hash(hasher),
            }
        }
        _ => payload.kind().hash(hasher),
    }
}

fn tf_tensor(tensor: &TfTensor, pad_axis: Option<usize>, hasher: &mut FxHasher) {
    array(tensor.dtype, &tensor.shape, pad_axis, hasher);
}

fn array(dtype: DType, shape: &[usize], pad_axis: Option<usize>, hasher: &mut FxHasher) {
    (dtype as u8, shape.len()).hash(hasher);
    for (axis, size) in shape.iter().enumerate().skip(1) {
        if pad_axis != Some(axis) {
            size.hash(hasher);
        }
    }
}

/// Entries count in any order: a map has none on the wire.
fn hash_of(value: &Value) -> u64 {
    let mut hasher = FxHasher::default();
    std::mem::discriminant(value).hash(&mut hasher);
    match value {
        Value::Null => {}
        Value::Bool(is_set) => is_set.hash(&mut hasher),
        Value::Number(number) => number.to_bits().hash(&mut hasher),
        Value::Integer(number) => number.hash(&mut hasher),
        Value::String(text) => text.hash(&mut hasher),
        Value::List(values) => {
            for value in values {
                hash_of(value).hash(&mut hasher);
            }
        }
        Value::Struct(fields) => {
            let entry = |(name, value): &(String, Value)| {
                let mut hasher = FxHasher::default();
                (name, hash_of(value)).hash(&mut hasher);
                hasher.finish()
            };
            let all = fields.iter().map(entry).fold(0, u64::wrapping_add);
            all.hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::codec::{Tensor, TfData};
    use super::*;

    fn tensor(shape: &[usize]) -> Payload {
        let values = vec![0.0; shape.iter().product()];
        let shape = shape.to_vec();
        Payload::Tensor(Tensor { shape, values })
    }

    fn input(dtype: DType, shape: &[usize]) -> TfTensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let (shape, data) = (shape.to_vec(), TfData::Elements(vec![0; bytes]));
        TfTensor { dtype, shape, data }
    }

    fn tags(fields: &[(&str, Value)]) -> Meta {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let tags = Value::Struct(fields.collect());
        Meta {
            fields: vec![("tags".to_owned(), tags)],
            ..Meta::default()
        }
    }

    fn of(payload: &Payload, meta: &Meta) -> u64 {
        group(payload, meta, Alike::Shapes, None)
    }

    #[test]
    fn rows_and_the_way_to_write_numbers_make_no_other_group() {
        let none = Meta::default();
        let list = |count| Value::List(vec![Value::Number(1.0); count]);
        let written = Payload::NdArray(vec![list(4), list(4), list(4)]);
        let tf = Payload::TfTensor(input(DType::Double, &[5, 4]));
        for alike in [tensor(&[1, 4]), tensor(&[9, 4]), written, tf] {
            assert_eq!(of(&alike, &none), of(&tensor(&[2, 4]), &none));
        }
    }

    #[test]
    fn another_shape_type_or_tag_is_another_group() {
        let none = Meta::default();
        let infer = |inputs: &[(&str, DType, &[usize])]| {
            let named = inputs
                .iter()
                .map(|(name, dtype, shape)| ((*name).to_owned(), input(*dtype, shape)));
            Payload::Infer(named.collect())
        };
        let (float, double) = (DType::Float, DType::Double);
        let payloads = [
            tensor(&[2, 4]),
            tensor(&[2, 5]),
            tensor(&[2, 4, 1]),
            Payload::TfTensor(input(float, &[2, 4])),
            Payload::StrData("x".to_owned()),
            Payload::BinData(bytes::Bytes::new()),
            infer(&[("a", double, &[2, 4])]),
            infer(&[("a", double, &[2, 4]), ("b", float, &[2, 1])]),
            infer(&[("a", double, &[2, 4]), ("c", float, &[2, 1])]),
        ];
        let number = Value::Number;
        let metas = [
            none,
            tags(&[("a", number(1.0))]),
            tags(&[("a", number(2.0))]),
            tags(&[("a", Value::Integer(1))]),
            tags(&[("b", number(1.0))]),
        ];
        let mut groups: Vec<u64> = payloads
            .iter()
            .flat_map(|payload| metas.iter().map(|meta| of(payload, meta)))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(groups.len(), payloads.len() * metas.len());
    }

    #[test]
    fn tags_are_alike_in_any_order_and_the_name_of_an_only_input_does_not_count() {
        let [one, two] = [Value::Number(1.0), Value::String("x".to_owned())];
        let there = tags(&[("a", one.clone()), ("b", two.clone())]);
        let back = tags(&[("b", two), ("a", one)]);
        assert_eq!(of(&tensor(&[1]), &there), of(&tensor(&[1]), &back));
        let named = |name: &str| Payload::Infer(vec![(name.to_owned(), input(DType::Float, &[1]))]);
        let none = Meta::default();
        assert_eq!(of(&named("a"), &none), of(&named("b"), &none));
    }

    #[test]
    fn what_is_padded_and_what_preprocess_makes_does_not_count() {
        let none = Meta::default();
        let padded = |shape: &[usize]| group(&tensor(shape), &none, Alike::Shapes, Some(1));
        assert_eq!(padded(&[1, 4, 2]), padded(&[1, 9, 2]));
        assert_ne!(padded(&[1, 4, 2]), padded(&[1, 4, 3]));
        let by_tags = |payload: Payload, meta: &Meta| group(&payload, meta, Alike::Tags, None);
        let text = Payload::StrData("x".to_owned());
        assert_eq!(by_tags(text, &none), by_tags(tensor(&[1, 4]), &none));
        let tagged = tags(&[("a", Value::Null)]);
        assert_ne!(by_tags(tensor(&[1]), &none), by_tags(tensor(&[1]), &tagged));
        assert_eq!(group(&tensor(&[1]), &tagged, Alike::All, None), 0);
    }
}
