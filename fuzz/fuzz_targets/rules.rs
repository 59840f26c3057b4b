//! A request target, and in the next line the rules of a configuration file: they are refused with a reason, or the guard does
//! as it is explained.

#![no_main]

use std::{convert::Infallible, env, fs};

use fastauth::{Denial, FastAuthLayer, Settings, path::PathDecision, store::MemoryStore};
use http::{Method, Request, Response, Uri};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};

fuzz_target!(|text: &str| {
    let Some((target, rules)) = text.split_once('\n') else { return };
    let Ok(rules) = serde_json::from_str::<Value>(rules) else { return };
    let Ok(uri) = target.parse::<Uri>() else { return };
    let directory = env::temp_dir().join("fastauth-fuzz-rules");
    fs::create_dir_all(&directory).expect("a directory");
    let config = json!({
        "cryptography-key": "a-key-of-forty-characters-for-the-fuzzer",
        "master-token": "a-master-token-for-the-fuzzer",
        "service-claim": { "principal": "service" },
        "rules": rules,
    });
    fs::write(directory.join("fastauth.config.json"), config.to_string()).expect("a file");
    let report = Settings::builder().environment([("", ""); 0]).directory(&directory).store(MemoryStore::new()).report();
    assert_eq!(report.faults().is_empty(), report.compiled_rules().is_ok());
    if !report.faults().is_empty() {
        return;
    }
    let methods = [Method::GET, Method::POST, Method::CONNECT];
    let decisions = methods.each_ref().map(|method| report.explain(method, target).expect("sound rules").decision());
    let guard = FastAuthLayer::new(report.into_settings().expect("sound settings")).expect("a layer");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (method, decision) in methods.into_iter().zip(decisions) {
        let request = Request::builder().method(&method).uri(uri.clone()).body(()).expect("a request");
        let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(String::new())));
        let Ok(response) = runtime.block_on(guard.layer(inner).oneshot(request));
        let passes = matches!(decision, PathDecision::Public | PathDecision::Optional);
        let reason = response.extensions().get::<Denial>().map(Denial::reason);
        assert_eq!(passes, reason.is_none(), "{method} {target:?} is {decision}, and was refused for {reason:?}");
    }
});
