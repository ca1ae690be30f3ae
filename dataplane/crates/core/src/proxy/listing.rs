//! The versions that a model's calls are routed by, in the answers that list them: added to those of an endpoint, which
//! knows only its own, and told in the place of endpoints that cannot say.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::method::Lists;
use super::route::{Model, Route};
use super::route_key::RouteKey;
use crate::code::Code;
use crate::grpc::framing::{self, PREFIX};
use crate::local::messages::inference::ModelMetadataResponse;
use crate::local::model_status::{self, GetModelStatusResponse, ModelVersionStatus, State};

/// What the access service can say to one call.
pub struct Listing {
    lists: Lists,
    /// Each routed version, and whether an endpoint of it is live.
    versions: Vec<(Box<str>, bool)>,
    /// The call asks for a version: of an endpoint's answer nothing is missing.
    is_of_one: bool,
}

/// An endpoint's answer, held back until all of it is here.
pub struct Completion {
    listing: Rc<Listing>,
    held: BytesMut,
}

// === impl Listing ===

impl Listing {
    /// `None` where no version has a route: the endpoints know better.
    pub fn new(lists: Lists, route: &Route<'_>, key: &RouteKey) -> Option<Rc<Self>> {
        let model = route.model?;
        let asked = route.version.or(key.version_or_label());
        let versions: Vec<_> = model
            .routed_versions()
            .filter(|(version, _)| {
                lists == Lists::Metadata || asked.is_none_or(|asked| asked == *version)
            })
            .map(|(version, split)| (Box::from(version), split.is_live()))
            .collect();
        let is_of_one = lists == Lists::Status && asked.is_some();
        (!versions.is_empty()).then(|| {
            Rc::new(Self {
                lists,
                versions,
                is_of_one,
            })
        })
    }

    /// The framed answer in the place of an error: the states are known here, but not what the model is.
    pub fn in_place_of(&self, code: Code) -> Option<Bytes> {
        let states = self.states();
        let knows = self.lists == Lists::Status
            && matches!(code, Code::Unavailable | Code::Unimplemented)
            && !states.is_empty();
        knows.then(|| framed(&model_status::encode(states)))
    }

    /// Holds an endpoint's answer back that may lack versions.
    pub fn completion(self: &Rc<Self>) -> Option<Completion> {
        (!self.is_of_one).then(|| Completion {
            listing: self.clone(),
            held: BytesMut::new(),
        })
    }

    /// A message with the versions that it lacks; `None` for one that cannot be read.
    fn completed(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self.lists {
            Lists::Status => {
                let mut said = GetModelStatusResponse::decode(message)
                    .ok()?
                    .model_version_status;
                let mut missing = self.states();
                missing.retain(|each| said.iter().all(|it| it.version != each.version));
                said.append(&mut missing);
                Some(model_status::encode(said))
            }
            Lists::Metadata => {
                let said = ModelMetadataResponse::decode(message).ok()?.versions;
                let versions = self.versions.iter().map(|(version, _)| version.to_string());
                let missing = ModelMetadataResponse {
                    versions: versions.filter(|each| !said.contains(each)).collect(),
                    ..ModelMetadataResponse::default()
                };
                // Behind one another, two messages are one with the lists of both: what is not known here stays.
                Some([message, &missing.encode_to_vec()].concat())
            }
        }
    }

    /// TF Serving's versions are numbers: others have no place there.
    fn states(&self) -> Vec<ModelVersionStatus> {
        let numbers = self.versions.iter();
        let numbers = numbers.filter_map(|(version, live)| Some((version.parse().ok()?, *live)));
        numbers
            .map(|(version, live)| match live {
                true => model_status::entry(version, State::Available, None),
                false => model_status::entry(version, State::Unknown, Some("no live endpoint")),
            })
            .collect()
    }
}

// === impl Completion ===

impl Completion {
    /// Take the next bytes of the answer, at most a message of the allowed size in all.
    pub fn push(&mut self, chunk: &[u8]) {
        self.held.extend_from_slice(chunk);
    }

    /// The whole answer. One that is compressed, or no single message, stays as it is.
    pub fn finish(self) -> Bytes {
        let held = self.held.freeze();
        let is_one = held.len() >= PREFIX
            && u32::try_from(held.len() - PREFIX)
                .is_ok_and(|length| held[..PREFIX] == framing::prefix(length));
        let completed = is_one.then(|| self.listing.completed(&held[PREFIX..]));
        completed.flatten().map_or(held, |message| framed(&message))
    }
}

// === impl Model ===

impl Model {
    /// What of `versions` are versions: where some are numbers, the others are labels that its endpoints know.
    pub fn routed_versions(
        &self,
    ) -> impl Iterator<Item = (&str, &std::sync::Arc<super::split::Split>)> {
        let is_number = |version: &str| version.bytes().all(|byte| byte.is_ascii_digit());
        let has_numbers = self.versions.keys().any(|version| is_number(version));
        self.versions
            .iter()
            .map(|(version, split)| (&**version, split))
            .filter(move |(version, _)| !has_numbers || is_number(version))
    }
}

fn framed(message: &[u8]) -> Bytes {
    // A list of names is far from 4 GiB.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_slice(&framing::prefix(length));
    framed.put_slice(message);
    framed.freeze()
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
