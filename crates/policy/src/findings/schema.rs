//! What is wrong with a resource by itself, as `mutua validate` finds it, under istioctl's codes.

use mutua_model::{Diagnostic, Severity};

use super::{Finding, codes};

/// IST0106 for everything that makes an object invalid, IST0133 for what Istio only warns about.
pub(super) fn findings(diagnostics: &[Diagnostic]) -> Vec<Finding> {
    diagnostics.iter().filter_map(finding).collect()
}

fn finding(diagnostic: &Diagnostic) -> Option<Finding> {
    let object = diagnostic.object.as_ref().map(ToString::to_string).unwrap_or_default();
    let (code, fix) = match diagnostic.severity {
        Severity::Error => ("IST0106", correction(&diagnostic.message)),
        Severity::Warning if !object.is_empty() && !about_roots(&diagnostic.path) => {
            ("IST0133", "write what you mean, or remove the field".to_owned())
        }
        _ => return None,
    };
    Some(Finding {
        file: diagnostic.place.file.to_string(),
        line: diagnostic.place.line,
        column: diagnostic.place.column,
        object,
        path: diagnostic.path.clone(),
        code,
        severity: codes::severity(code),
        message: diagnostic.message.clone(),
        fix,
    })
}

/// What to do about an error: the word that was probably meant, or what the message says.
fn correction(message: &str) -> String {
    match message.rsplit_once("did you mean ") {
        Some((_, meant)) => format!("write {}", meant.trim_end_matches('?')),
        None => "correct it as the message says".to_owned(),
    }
}

/// TLS settings without roots have codes of their own, IST0128 and IST0129.
fn about_roots(path: &str) -> bool {
    path.ends_with("/tls") && path.contains("trafficPolicy")
}
