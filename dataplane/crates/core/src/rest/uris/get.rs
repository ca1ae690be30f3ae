//! One GET of data, from a host that may be asked.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

use super::allowed::Allowed;
use super::{Fetched, denied, essence, failed};
use crate::call::limit::Held;
use crate::error::{Error, ErrorKind};

/// Bytes of an answer's headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// A connection, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub enum Answered {
    Whole(Fetched),
    /// It is somewhere else.
    Elsewhere(String),
}

/// Connect to an address that the URI's host has. It is looked up once, and what is connected to is what was checked.
pub async fn connect(
    uri: &Url,
    allowed: &Allowed,
    tls: &Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, Error> {
    let port = uri.port_or_known_default().unwrap_or(443);
    let addresses: Vec<SocketAddr> = match uri.host() {
        Some(Host::Ipv4(address)) => vec![(address, port).into()],
        Some(Host::Ipv6(address)) => vec![(address, port).into()],
        Some(Host::Domain(name)) => {
            let found = tokio::net::lookup_host((name, port)).await;
            let found =
                found.map_err(|error| failed(uri, &format!("its host is not found: {error}")))?;
            found.collect()
        }
        None => return Err(denied(uri, "it has no host")),
    };
    let mut why = None;
    for address in addresses {
        if !allowed.reaches(address.ip()) {
            let ip = address.ip();
            why.get_or_insert_with(|| {
                denied(
                    uri,
                    &format!("its address {ip} is no public one: uris.networks"),
                )
            });
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) if uri.scheme() == "https" => return secured(stream, uri, tls).await,
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => why = Some(failed(uri, &format!("no connection: {error}"))),
        }
    }
    Err(why.unwrap_or_else(|| failed(uri, "its host has no address")))
}

async fn secured(
    stream: TcpStream,
    uri: &Url,
    tls: &Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, Error> {
    let host = uri.host_str().unwrap_or_default();
    // An address of IPv6 stands in brackets there.
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host);
    let name = name.map_err(|_| failed(uri, "its host is no name that a certificate can have"))?;
    let secured = TlsConnector::from(tls.clone()).connect(name, stream).await;
    let secured = secured.map_err(|error| failed(uri, &format!("TLS: {error}")))?;
    Ok(Box::new(secured))
}

/// Ask for the data. `types` are those that are taken; none is all.
pub async fn get(
    stream: Box<dyn Stream>,
    uri: &Url,
    types: &[String],
    max_bytes: usize,
    held: Held,
) -> Result<Answered, Error> {
    let broken = |error: hyper::Error| failed(uri, &format!("the answer broke off: {error}"));
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let asking = async {
        let answer = sender
            .send_request(request(uri, types)?)
            .await
            .map_err(broken)?;
        read(answer, uri, types, max_bytes, held).await
    };
    let mut connection = std::pin::pin!(connection);
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        answered = &mut asking => answered,
        // It ends with the answer, too, which may wait to be read then.
        _ = &mut connection => asking.await,
    }
}

fn request(uri: &Url, types: &[String]) -> Result<Request<Empty<Bytes>>, Error> {
    let host = uri.host_str().unwrap_or_default();
    let host = uri
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = uri.query().map_or_else(
        || uri.path().to_owned(),
        |query| format!("{}?{query}", uri.path()),
    );
    let accept = if types.is_empty() {
        "*/*".to_owned()
    } else {
        types.join(", ")
    };
    let request = Request::get(path)
        .header(HOST, host)
        .header(
            USER_AGENT,
            concat!("dl-inference/", env!("CARGO_PKG_VERSION")),
        )
        .header(ACCEPT, accept)
        .header(ACCEPT_ENCODING, "identity")
        .body(Empty::new());
    request
        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("no URI to ask for: {error}")))
}

async fn read(
    answer: Response<Incoming>,
    uri: &Url,
    types: &[String],
    max_bytes: usize,
    mut held: Held,
) -> Result<Answered, Error> {
    let (head, mut body) = answer.into_parts();
    if matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        let location = head.headers.get(LOCATION).and_then(|it| it.to_str().ok());
        let location = location.ok_or_else(|| failed(uri, "it redirects without saying where"))?;
        return Ok(Answered::Elsewhere(location.to_owned()));
    }
    if head.status != StatusCode::OK {
        return Err(failed(uri, &format!("its host answers {}", head.status)));
    }
    let media_type = media_type(&head.headers);
    if !is_taken(&media_type, types) {
        let text = format!(
            "its type {media_type:?} is none of {} (uris.types)",
            types.join(", ")
        );
        return Err(denied(uri, &text));
    }
    let large = |length: &dyn std::fmt::Display| {
        denied(
            uri,
            &format!("{length} bytes are over the limit of {max_bytes} (uris.max_bytes)"),
        )
    };
    let stated = body.size_hint().lower();
    if stated > max_bytes as u64 {
        return Err(large(&stated));
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| failed(uri, &format!("the answer broke off: {error}")))?;
        let Some(chunk) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + chunk.len() > max_bytes {
            return Err(large(&format_args!("more than {}", bytes.len())));
        }
        held.grow(chunk.len())?;
        bytes.extend_from_slice(chunk);
    }
    Ok(Answered::Whole(Fetched {
        bytes: bytes.freeze(),
        media_type,
        held,
    }))
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    value.map_or_else(String::new, essence)
}

fn is_taken(media_type: &str, types: &[String]) -> bool {
    let is_one = |taken: &String| match taken.strip_suffix("/*") {
        Some("*") => true,
        Some(kind) => media_type.split_once('/').is_some_and(|(it, _)| it == kind),
        None => taken == media_type,
    };
    types.is_empty() || types.iter().any(is_one)
}
