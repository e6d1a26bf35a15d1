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
        Severity::Error => ("IST0106", format!("correct it: `mutua validate -f {}` shows the line", diagnostic.place.file)),
        Severity::Warning if !object.is_empty() && !about_roots(&diagnostic.path) => {
            ("IST0133", "write what you mean, or remove the field".to_owned())
        }
        _ => return None,
    };
    Some(Finding {
        file: diagnostic.place.file.to_string(),
        line: diagnostic.place.line,
        object,
        path: diagnostic.path.clone(),
        code,
        severity: codes::severity(code),
        message: diagnostic.message.clone(),
        fix,
    })
}

/// TLS settings without roots have codes of their own, IST0128 and IST0129.
fn about_roots(path: &str) -> bool {
    path.ends_with("/tls") && path.contains("trafficPolicy")
}
