//! `proxy CONFIG.json STATE.json`: the access service's data plane without Python, for profilers and callgrind.
//!
//! The documents are those that `dl_core::ProxyConfig` and `StateConfig` describe; the control plane writes them in the product. It
//! runs until its standard input ends.

use std::io::Read;

use dl_core::{Inherited, Proxy};

// As in the native module: what is measured here is what is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let mut read = |what: &str| -> Result<String, String> {
        let path = arguments
            .next()
            .ok_or("usage: proxy CONFIG.json STATE.json < /dev/null")?;
        std::fs::read_to_string(&path).map_err(|error| format!("{what} {path}: {error}"))
    };
    let (config, state) = (read("configuration")?, read("state")?);
    let config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
    let state = serde_json::from_str(&state).map_err(|error| error.to_string())?;
    let descriptors = include_bytes!("../../../../../dl_inference/_wire.binpb");
    let mut proxy = Proxy::new(config, descriptors)?;
    let addresses = proxy
        .start(Inherited::default())
        .map_err(|error| error.to_string())?;
    proxy.apply(&state)?;
    eprintln!("listening on {}", addresses.join(" "));
    let mut rest = Vec::new();
    std::io::stdin()
        .read_to_end(&mut rest)
        .map_err(|error| error.to_string())?;
    proxy.stop();
    Ok(())
}
