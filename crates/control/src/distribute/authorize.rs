//! Who may ask for what: a proxy gets configuration, and may report, only for a workload whose namespace and service
//! account equal its certificate's.

use std::sync::Arc;

use mutua_identity::SpiffeId;
use mutua_wire::discovery::Node;
use mutua_wire::node::{metadata_string, node_workload};
use tonic::Status;

use crate::listen::Peer;
use crate::names::WorkloadName;
use crate::world::{Member, Snapshot};

/// The identity that the connection proves. A connection outlives the news that its certificate is revoked, so this is
/// asked again with each snapshot.
///
/// # Errors
/// UNAUTHENTICATED when the client showed no certificate (text as istiod's), or one that is revoked.
pub fn identity<'a>(snapshot: &Snapshot, peer: Option<&'a Peer>) -> Result<&'a SpiffeId, Status> {
    let known = peer.and_then(|peer| Some((peer, peer.identity.as_ref()?)));
    let (peer, identity) = known.ok_or_else(|| Status::unauthenticated("authentication failure"))?;
    if snapshot.trust.roots.revokes(&peer.path) {
        return Err(Status::unauthenticated("authentication failure: the client certificate is revoked"));
    }
    Ok(identity)
}

/// The workload that `node` names.
///
/// # Errors
/// INVALID_ARGUMENT when there is no node, or its id does not have Istio's four parts; names are checked for form.
pub fn named_workload(node: Option<&Node>) -> Result<WorkloadName, Status> {
    let node = node.ok_or_else(|| Status::invalid_argument("missing node information"))?;
    let (namespace, name) = node_workload(node).ok_or_else(|| Status::invalid_argument("invalid node id"))?;
    let workload: WorkloadName =
        format!("{namespace}/{name}").parse().map_err(|error| Status::invalid_argument(format!("invalid node id: {error}")))?;
    match metadata_string(node.metadata.as_ref(), "NAMESPACE") {
        Some(claimed) if claimed != workload.namespace() => {
            Err(Status::invalid_argument("invalid node: its id and its metadata NAMESPACE differ"))
        }
        _ => Ok(workload),
    }
}

/// The workload as the mesh knows it, when `identity` is entitled to it.
///
/// # Errors
/// PERMISSION_DENIED with istiod's text when the certificate is of another namespace or service account, or of another
/// trust domain; NOT_FOUND when the certificate fits no workload because there is none of this name. A caller of a
/// foreign namespace is not told which workloads exist.
pub fn entitled<'a>(snapshot: &'a Snapshot, identity: &SpiffeId, workload: &WorkloadName) -> Result<&'a Arc<Member>, Status> {
    let denied = |account: &str| {
        let wanted = format!("{}/{account}", workload.namespace());
        Status::permission_denied(format!("authorization failed: no identities ([{identity}]) matched {wanted}"))
    };
    if !snapshot.trusts(identity.trust_domain()) || identity.namespace() != workload.namespace() {
        return Err(denied(""));
    }
    let member = snapshot.member(workload);
    let member = member.ok_or_else(|| Status::not_found(format!("the mesh has no workload {workload}")))?;
    if identity.service_account() != member.account {
        return Err(denied(&member.account));
    }
    Ok(member)
}
