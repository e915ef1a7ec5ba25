//! The library of the page, at `/socket.io/socket.io.js` (`--socketio-client`). All pages ask for it without a version, so
//! the operator names the version.

use crate::serve::routes::response::{self, Response};
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use ring::digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The longest file, and the most files.
const MAX_FILE: u64 = 4 << 20;
const MAX_FILES: usize = 100;

const FOLDER: &str = "/socket.io/";
const MAIN: &str = "socket.io.js";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Where the library is.
#[derive(Clone, Debug)]
pub enum BrowserClient {
    /// The files of a folder, by their names, with their tags.
    Files(BTreeMap<String, (Bytes, HeaderValue)>),
    /// An address. If it ends with a slash, the name of the file is added.
    Address(String),
}

/// The name of the file that a path asks for; `None` for other paths.
pub fn name_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix(FOLDER)?;
    let is_sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    (is_sound && name.starts_with("socket.io") && (name.ends_with(".js") || name.ends_with(".map"))).then_some(name)
}

impl BrowserClient {
    /// Reads the value of `--socketio-client`: an address, or a folder.
    ///
    /// # Errors
    ///
    /// The folder does not have the library.
    pub fn open(value: &str) -> Result<BrowserClient, String> {
        if value.starts_with("https://")
            || value.starts_with("http://")
            || value.starts_with('/') && value.ends_with(".js")
        {
            HeaderValue::from_str(value).map_err(|_| "use an address of visible ASCII characters")?;
            return Ok(BrowserClient::Address(value.to_owned()));
        }
        let files = read(Path::new(value)).map_err(|error| format!("{value}: {error}"))?;
        if !files.keys().any(|name| name.ends_with(".js")) {
            return Err(format!(
                "{value} has no file such as {MAIN}: name the folder `dist` of the package socket.io-client"
            ));
        }
        Ok(BrowserClient::Files(files))
    }
}

fn read(folder: &Path) -> std::io::Result<BTreeMap<String, (Bytes, HeaderValue)>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_wanted = name_of(&format!("{FOLDER}{name}")).is_some() && fs::metadata(entry.path())?.len() <= MAX_FILE;
        if is_wanted && files.len() < MAX_FILES {
            let bytes = Bytes::from(fs::read(entry.path())?);
            let hash = digest::digest(&digest::SHA256, &bytes);
            let tag: String = hash.as_ref().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
            if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
                files.insert(name, (bytes, tag));
            }
        }
    }
    Ok(files)
}

/// Answers a request for a file.
pub fn answer(client: Option<&BrowserClient>, name: &str, method: &Method, headers: &HeaderMap) -> Response {
    let missing = |text: String| response::whole(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text);
    match client {
        None => {
            missing("the library is not served here: start the server with --socketio-client DIR or URL\n".to_owned())
        }
        Some(BrowserClient::Address(address)) => {
            let target = if address.ends_with('/') { format!("{address}{name}") } else { address.clone() };
            let mut response = response::whole(StatusCode::FOUND, "", "");
            if let Ok(target) = HeaderValue::from_str(&target) {
                response.headers_mut().insert(header::LOCATION, target);
            }
            response
        }
        Some(BrowserClient::Files(files)) => {
            // The names of 0.9 say a version or transports: `socket.io.v0.9.x.js`, `socket.io+websocket.js`.
            let is_old = name.starts_with("socket.io.v") || name.starts_with("socket.io+");
            let Some((bytes, tag)) = files.get(name).or_else(|| files.get(MAIN).filter(|_| is_old)) else {
                let known: Vec<&str> = files.keys().map(String::as_str).collect();
                return missing(format!("the folder of --socketio-client has {}\n", known.join(", ")));
            };
            let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag);
            let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
            let content_type = if name.ends_with(".map") { "application/json" } else { SCRIPT };
            let body = if is_known || *method == Method::HEAD { Bytes::new() } else { bytes.clone() };
            let mut response = response::whole(status, content_type, body);
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=0"));
            headers.insert(header::ETAG, tag.clone());
            headers.remove(header::PRAGMA);
            headers.remove(header::EXPIRES);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_library() {
        for name in
            ["socket.io.js", "socket.io.min.js.map", "socket.io.v0.9.x.js", "socket.io+websocket+xhr-polling.js"]
        {
            assert_eq!(name_of(&format!("/socket.io/{name}")), Some(name));
        }
        for path in [
            "/socket.io/",
            "/socket.io/1/",
            "/socket.io/a.js",
            "/socket.io/socket.io/../x.js",
            "/socket.io/socket.io.css",
        ] {
            assert_eq!(name_of(path), None, "{path}");
        }
    }
}
