//! Secrets and ConfigMaps.

use crate::read::certificates::base64;
use crate::read::tree::Node;
use crate::secret::SecretValue;
use crate::{Kind, Meta, Secret, SecretText};

/// A Secret (`stringData` counts before `data`, as in Kubernetes) or a ConfigMap.
pub fn secret(meta: Meta, node: &Node) -> Secret {
    let encoded = meta.object.kind == Kind::Secret;
    Secret::new(meta, |key| {
        let plain = node.at_path(&[if encoded { "stringData" } else { "data" }, key]);
        if plain.is_given() {
            return Some(plain.text().map_or(SecretValue::Unusable("is no text"), text));
        }
        let value = node.at_path(&["data", key]);
        if !encoded || !value.is_given() {
            return None;
        }
        let Some(bytes) = value.text().and_then(base64) else { return Some(SecretValue::Unusable("is no base64")) };
        Some(String::from_utf8(bytes).map_or(SecretValue::Unusable("is no text in UTF-8"), |decoded| text(&decoded)))
    })
}

fn text(value: &str) -> SecretValue {
    match value.len() > Secret::MAX_VALUE {
        true => SecretValue::Unusable("is longer than 1 MiB"),
        false => SecretValue::Text(SecretText::new(value)),
    }
}

#[cfg(test)]
mod tests {
    use crate::read::Inputs;
    use crate::secret::SecretValue;

    #[test]
    fn values_are_decoded_and_what_cannot_be_used_says_why() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: bar}\n\
            data: {tls.crt: Y2VydA==, tls.key: '!', ca.crt: /w==, cert: b2xk, other: b3RoZXI=, crl: ''}\n\
            stringData: {cert: new, key: 7, cacert: [a]}\n---\n\
            apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: bar}\ndata: {ca.crt: plain}\n";
        let loaded = Inputs::from_texts([("a.yaml", text)]).load().expect("readable");
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        let [secret, map] = loaded.mesh.secrets.iter().collect::<Vec<_>>()[..] else { panic!("two") };
        let shown = |key| match secret.value(key) {
            Some(SecretValue::Text(text)) => text.get().to_owned(),
            Some(SecretValue::Unusable(why)) => format!("({why})"),
            None => String::new(),
        };
        let all = ["tls.crt", "tls.key", "ca.crt", "cert", "key", "cacert", "crl", "other"].map(shown);
        assert_eq!(all, ["cert", "(is no base64)", "(is no text in UTF-8)", "new", "7", "(is no text)", "", ""]);
        assert!(matches!(map.value("ca.crt"), Some(SecretValue::Text(text)) if text.get() == "plain"));
        let printed = format!("{:?}", loaded.mesh);
        assert!(!printed.contains("plain") && !printed.contains("new"), "values are never printed");
    }
}
