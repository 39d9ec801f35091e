//! `towpath version`: which one this is.

use serde_json::Value;

use super::output::table::{Show, cell, list};

/// A line for each part.
pub(super) fn table(value: &Value) -> String {
    let get = |at: &str| cell(value.pointer(at), Show::Text);
    let object = match value.get("object") {
        None | Some(Value::Null) => {
            "not built in: datapath.object or --object names one".to_owned()
        }
        Some(_) => format!(
            "built in, ABI {}, {} bytes",
            get("/object/abi"),
            get("/object/bytes")
        ),
    };
    let features: Vec<&str> = list(value, "features")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    format!(
        "towpath {}\ncommit          {}\nplatform        {}\nABI             {}\n\
         kernel program  {object}\nfeatures        {}\n",
        get("/version"),
        get("/commit"),
        get("/target"),
        get("/abi"),
        features.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn with_and_without_a_program() {
        let mut value = json!({
            "version": "0.1.0", "commit": null, "target": "x86_64-linux-gnu", "abi": 3,
            "object": null, "features": ["daemon"],
        });
        let expected = "towpath 0.1.0\ncommit          -\nplatform        x86_64-linux-gnu\n\
                        ABI             3\nkernel program  not built in: datapath.object or \
                        --object names one\nfeatures        daemon\n";
        assert_eq!(table(&value), expected);
        value["object"] = json!({ "bytes": 70_000, "abi": 3 });
        assert!(table(&value).contains("kernel program  built in, ABI 3, 70000 bytes\n"));
    }
}
