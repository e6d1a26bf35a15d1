//! The user and group that a sidecar runs as.

use mutua_model::Labels;

/// The uid and gid of the sidecar (Istio's), which the capture rules exempt.
pub const PROXY_ID: u32 = 1337;
/// OpenShift's ranges of a namespace.
const UIDS: &str = "openshift.io/sa.scc.uid-range";
const GROUPS: &str = "openshift.io/sa.scc.supplemental-groups";

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Ids {
    /// From the annotations of a namespace: 1337, but on OpenShift, whose admission allows only ids of the namespace's own
    /// ranges, the last of each (Istio's `GetProxyIDs`; applications are given the first).
    #[must_use]
    pub fn of_namespace(annotations: &Labels) -> Self {
        let last = |key: &str| annotations.get(key).filter(|text| !text.is_empty()).map(|text| text.split(',').next());
        let uid = last(UIDS).flatten().and_then(last_of_block);
        let gid = last(GROUPS).or_else(|| last(UIDS)).flatten().and_then(last_of_block);
        Self { uid: uid.unwrap_or(PROXY_ID), gid: gid.unwrap_or(PROXY_ID) }
    }
}

/// The last id of `START/SIZE` or `START-END`.
fn last_of_block(block: &str) -> Option<u32> {
    if let Some((start, size)) = block.split_once('/') {
        let (start, size): (u32, u32) = (start.parse().ok()?, size.parse().ok()?);
        return start.checked_add(size.checked_sub(1)?);
    }
    let (start, end) = block.split_once('-')?;
    let _: u32 = start.parse().ok()?;
    end.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_id_of_a_namespaces_range_counts() {
        let ids = |pairs: &[(&str, &str)]| {
            let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let Ids { uid, gid } = Ids::of_namespace(&annotations);
            (uid, gid)
        };
        assert_eq!(ids(&[]), (1337, 1337));
        assert_eq!(ids(&[(UIDS, "1000650000/10000"), (GROUPS, "1000660000/10000,5/3")]), (1_000_659_999, 1_000_669_999));
        assert_eq!(ids(&[(UIDS, "1000-1999")]), (1999, 1999));
        assert_eq!(ids(&[(UIDS, "4294967295/10"), (GROUPS, "x")]), (1337, 1337));
        assert_eq!(ids(&[(UIDS, "5/0"), (GROUPS, "")]), (1337, 1337));
    }
}
