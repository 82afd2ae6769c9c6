//! `CatalogService` and the services over plans and add-ons: every rpc, its success and its errors.

use tessera_core::revision::Revision;
use tessera_proto::v1;
use tonic::Code;

use crate::rig::{Rig, create_plan, create_tenant, fields, limit, plan_document, refused, service};

#[tokio::test]
async fn services_and_features_are_registered_switched_and_archived() {
    let mut rig = Rig::new().await;
    let mut asked = service("reporting", &["exports"]);
    asked.request_id = "r1".to_owned();
    let answer = rig.catalog.upsert_service(asked.clone()).await.unwrap();
    assert_eq!(answer.metadata().get("tessera-request-id").unwrap(), "r1");
    let answer = answer.into_inner();
    let revision = Revision::parse(&answer.revision).unwrap();
    assert_eq!((revision.epoch, revision.streams[0].seq, answer.idempotent_replay), (1, 1, false));
    let first = answer.service.unwrap();
    let replay = rig.catalog.upsert_service(asked.clone()).await.unwrap().into_inner();
    assert_eq!((replay.service.as_ref(), replay.idempotent_replay), (Some(&first), true));
    asked.title = "Other".to_owned();
    assert_eq!(refused(rig.catalog.upsert_service(asked).await), (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));

    let mut stale = service("reporting", &["charts"]);
    stale.etag = first.etag.clone();
    let second = rig.catalog.upsert_service(stale.clone()).await.unwrap().into_inner().service.unwrap();
    assert_eq!(second.features.len(), 2);
    stale.title = "Again".to_owned();
    assert_eq!(refused(rig.catalog.upsert_service(stale).await), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    // A change of another service is none of this one.
    rig.catalog.upsert_service(service("orders", &[])).await.unwrap();
    let get = v1::GetServiceRequest { service_id: "reporting".to_owned() };
    let now = rig.catalog.get_service(get).await.unwrap().into_inner().service.unwrap();
    assert_eq!(now.etag, second.etag);

    let disable = v1::DisableFeatureRequest {
        service_id: "reporting".to_owned(),
        feature_id: "exports".to_owned(),
        reason: "incident 7".to_owned(),
        ..Default::default()
    };
    let disabled = rig.catalog.disable_feature(disable.clone()).await.unwrap().into_inner().service.unwrap();
    assert!(disabled.features[0].disabled && !disabled.disabled);
    assert_eq!(
        fields(rig.catalog.disable_feature(v1::DisableFeatureRequest { reason: String::new(), ..disable }).await),
        ["reason"]
    );
    let enable =
        v1::EnableFeatureRequest { service_id: "reporting".to_owned(), feature_id: "exports".to_owned(), ..Default::default() };
    assert!(!rig.catalog.enable_feature(enable).await.unwrap().into_inner().service.unwrap().features[0].disabled);

    let archive =
        v1::ArchiveFeatureRequest { service_id: "reporting".to_owned(), feature_id: "charts".to_owned(), ..Default::default() };
    assert!(rig.catalog.archive_feature(archive.clone()).await.unwrap().into_inner().service.unwrap().features[1].archived);
    let unknown = v1::ArchiveFeatureRequest { feature_id: "nothing".to_owned(), ..archive.clone() };
    assert_eq!(refused(rig.catalog.archive_feature(unknown).await), (Code::NotFound, "FEATURE_NOT_FOUND".to_owned()));
    let empty = v1::ArchiveFeatureRequest { feature_id: String::new(), ..archive };
    assert_eq!(fields(rig.catalog.archive_feature(empty).await), ["feature_id"]);
    let archive = v1::ArchiveServiceRequest { service_id: "orders".to_owned(), ..Default::default() };
    assert!(rig.catalog.archive_service(archive).await.unwrap().into_inner().service.unwrap().archived);

    let list = |show_archived| v1::ListServicesRequest { show_archived, ..Default::default() };
    assert_eq!(rig.catalog.list_services(list(false)).await.unwrap().into_inner().services.len(), 1);
    assert_eq!(rig.catalog.list_services(list(true)).await.unwrap().into_inner().services.len(), 2);
    let get = v1::GetServiceRequest { service_id: "nothing".to_owned() };
    assert_eq!(refused(rig.catalog.get_service(get).await), (Code::NotFound, "SERVICE_NOT_FOUND".to_owned()));
    assert_eq!(fields(rig.catalog.upsert_service(service("Bad Id", &["-"])).await).len(), 2);
}

#[tokio::test]
async fn limits_are_registered_listed_and_archived() {
    let mut rig = Rig::new().await;
    for n in 0..5 {
        rig.catalog.upsert_limit(limit(&format!("limit-{n}"))).await.unwrap();
    }
    let get = v1::GetLimitRequest { limit_id: "limit-3".to_owned() };
    assert_eq!(rig.catalog.get_limit(get).await.unwrap().into_inner().limit.unwrap().unit, "users");
    let archive = v1::ArchiveLimitRequest { limit_id: "limit-0".to_owned(), ..Default::default() };
    assert!(rig.catalog.archive_limit(archive).await.unwrap().into_inner().limit.unwrap().archived);
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let page = v1::ListLimitsRequest { page_size: 2, page_token: token, show_archived: false };
        let page = rig.catalog.list_limits(page).await.unwrap().into_inner();
        assert!(page.limits.len() <= 2);
        ids.extend(page.limits.into_iter().map(|limit| limit.limit_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, ["limit-1", "limit-2", "limit-3", "limit-4"]);
    let get = v1::GetLimitRequest { limit_id: "nothing".to_owned() };
    assert_eq!(refused(rig.catalog.get_limit(get).await), (Code::NotFound, "LIMIT_NOT_FOUND".to_owned()));
    let list = v1::ListLimitsRequest { page_token: "nonsense".to_owned(), ..Default::default() };
    assert_eq!(fields(rig.catalog.list_limits(list).await), ["page_token"]);
    let list = v1::ListLimitsRequest { page_size: 1_001, ..Default::default() };
    assert_eq!(fields(rig.catalog.list_limits(list).await), ["page_size"]);
}

#[tokio::test]
async fn plans_are_drafted_published_compared_archived_and_deleted() {
    let mut rig = Rig::furnished().await;
    let plan_id = || "bronze".to_owned();
    let created = rig.plans.create_plan(create_plan("bronze", 10)).await.unwrap().into_inner().plan.unwrap();
    assert_eq!((created.latest_version, created.draft_differs), (0, true));
    assert_eq!(refused(rig.plans.create_plan(create_plan("bronze", 10)).await), (Code::AlreadyExists, "PLAN_EXISTS".to_owned()));
    let tenant = v1::CreateTenantRequest { plan_id: plan_id(), ..create_tenant("acme") };
    let (code, _) = refused(rig.tenants.create_tenant(tenant).await);
    assert!(matches!(code, Code::FailedPrecondition | Code::NotFound), "an unpublished plan takes no tenants: {code:?}");

    // Deleted and made again, on the same stream.
    let delete = v1::DeletePlanRequest { plan_id: plan_id(), ..Default::default() };
    let deleted = rig.plans.delete_plan(delete.clone()).await.unwrap().into_inner();
    assert_eq!(deleted.plan.unwrap(), created, "the plan before it was deleted");
    let get = v1::GetPlanRequest { plan_id: plan_id() };
    assert_eq!(refused(rig.plans.get_plan(get.clone()).await), (Code::NotFound, "PLAN_NOT_FOUND".to_owned()));
    assert_eq!(refused(rig.plans.delete_plan(delete.clone()).await), (Code::NotFound, "PLAN_NOT_FOUND".to_owned()));
    rig.plans.create_plan(create_plan("bronze", 20)).await.unwrap();

    let publish = v1::PublishPlanRequest { plan_id: plan_id(), ..Default::default() };
    assert_eq!(rig.plans.publish_plan(publish.clone()).await.unwrap().into_inner().plan.unwrap().latest_version, 1);
    assert_eq!(refused(rig.plans.publish_plan(publish.clone()).await), (Code::FailedPrecondition, "DRAFT_UNCHANGED".to_owned()));
    assert_eq!(refused(rig.plans.delete_plan(delete).await), (Code::FailedPrecondition, "ALREADY_PUBLISHED".to_owned()));
    let update = v1::UpdatePlanRequest { plan_id: plan_id(), document: Some(plan_document(30)), ..Default::default() };
    rig.plans.update_plan(update.clone()).await.unwrap();
    rig.plans.publish_plan(publish).await.unwrap();

    let version = |version| v1::GetPlanVersionRequest { plan_id: plan_id(), version };
    let latest = rig.plans.get_plan_version(version(0)).await.unwrap().into_inner().plan_version.unwrap();
    assert_eq!((latest.version, latest.document.unwrap()), (2, plan_document(30)));
    let status = rig.plans.get_plan_version(version(3)).await.unwrap_err();
    assert_eq!(status.message(), "version `3` is not published; published are 1 to 2");
    assert_eq!(refused(Err::<(), _>(status)), (Code::NotFound, "PLAN_VERSION_NOT_FOUND".to_owned()));
    assert_eq!(fields(rig.plans.get_plan_version(version(-1)).await), ["version"]);
    let list = v1::ListPlanVersionsRequest { plan_id: plan_id(), page_size: 1, ..Default::default() };
    let page = rig.plans.list_plan_versions(list.clone()).await.unwrap().into_inner();
    assert_eq!(page.plan_versions[0].version, 1);
    let list = v1::ListPlanVersionsRequest { page_token: page.next_page_token, ..list };
    let page = rig.plans.list_plan_versions(list).await.unwrap().into_inner();
    assert_eq!((page.plan_versions[0].version, page.next_page_token.as_str()), (2, ""));
    let diff = |from_version, to_version| v1::DiffPlanVersionsRequest { plan_id: plan_id(), from_version, to_version };
    let difference = rig.plans.diff_plan_versions(diff(1, 2)).await.unwrap().into_inner().difference.unwrap();
    assert_eq!(difference.limits_changed.len(), 1);
    assert_eq!(rig.plans.diff_plan_versions(diff(2, 0)).await.unwrap().into_inner().difference, None);
    assert_eq!(rig.plans.diff_plan_versions(diff(0, 1)).await.unwrap().into_inner().difference.unwrap().services_added.len(), 1);

    let archive = v1::ArchivePlanRequest { plan_id: plan_id(), ..Default::default() };
    assert!(rig.plans.archive_plan(archive).await.unwrap().into_inner().plan.unwrap().archived);
    let update = v1::UpdatePlanRequest { document: Some(plan_document(40)), ..update };
    assert_eq!(refused(rig.plans.update_plan(update).await), (Code::FailedPrecondition, "PLAN_ARCHIVED".to_owned()));
    let tenant = v1::CreateTenantRequest { plan_id: plan_id(), ..create_tenant("acme") };
    assert_eq!(refused(rig.tenants.create_tenant(tenant).await), (Code::FailedPrecondition, "PLAN_ARCHIVED".to_owned()));
    let list = |show_archived| v1::ListPlansRequest { show_archived, ..Default::default() };
    assert_eq!(rig.plans.list_plans(list(false)).await.unwrap().into_inner().plans.len(), 2);
    assert_eq!(rig.plans.list_plans(list(true)).await.unwrap().into_inner().plans.len(), 3);
    let get = rig.plans.get_plan(get).await.unwrap().into_inner();
    assert_eq!(Revision::parse(&get.revision).unwrap().streams[0].seq, 7);
}

#[tokio::test]
async fn what_is_not_registered_is_refused_with_the_path_of_the_field() {
    let mut rig = Rig::furnished().await;
    let mut asked = create_plan("bronze", 1);
    let document = asked.document.as_mut().unwrap();
    document.services.insert("nothing".to_owned(), v1::ServiceGrant::default());
    document.limits.insert("nothing".to_owned(), v1::LimitGrant { value: Some(v1::limit_grant::Value::Unlimited(true)) });
    assert_eq!(fields(rig.plans.create_plan(asked).await), ["document.services[\"nothing\"]", "document.limits[\"nothing\"]"]);
}

#[tokio::test]
async fn add_ons_are_as_plans_are() {
    let mut rig = Rig::furnished().await;
    let add_on_id = || "seats".to_owned();
    let get = v1::GetAddOnRequest { add_on_id: add_on_id() };
    assert_eq!(rig.add_ons.get_add_on(get).await.unwrap().into_inner().add_on.unwrap().latest_version, 1);
    let document = v1::AddOnDocument { title: "Seats".to_owned(), ..Default::default() };
    let update = v1::UpdateAddOnRequest { add_on_id: add_on_id(), document: Some(document), ..Default::default() };
    assert!(rig.add_ons.update_add_on(update).await.unwrap().into_inner().add_on.unwrap().draft_differs);
    let diff = v1::DiffAddOnVersionsRequest { add_on_id: add_on_id(), from_version: 1, to_version: 0 };
    let difference = rig.add_ons.diff_add_on_versions(diff).await.unwrap().into_inner().difference.unwrap();
    assert_eq!((difference.title.as_deref(), difference.limits_removed.len()), (Some("Seats"), 1));
    let version = v1::GetAddOnVersionRequest { add_on_id: add_on_id(), version: 1 };
    assert_eq!(rig.add_ons.get_add_on_version(version).await.unwrap().into_inner().add_on_version.unwrap().version, 1);
    let list = v1::ListAddOnVersionsRequest { add_on_id: add_on_id(), ..Default::default() };
    assert_eq!(rig.add_ons.list_add_on_versions(list).await.unwrap().into_inner().add_on_versions.len(), 1);
    let delete = v1::DeleteAddOnRequest { add_on_id: add_on_id(), ..Default::default() };
    assert_eq!(refused(rig.add_ons.delete_add_on(delete).await), (Code::FailedPrecondition, "ALREADY_PUBLISHED".to_owned()));
    let archive = v1::ArchiveAddOnRequest { add_on_id: add_on_id(), ..Default::default() };
    assert!(rig.add_ons.archive_add_on(archive).await.unwrap().into_inner().add_on.unwrap().archived);
    assert!(rig.add_ons.list_add_ons(v1::ListAddOnsRequest::default()).await.unwrap().into_inner().add_ons.is_empty());
    let get = v1::GetAddOnRequest { add_on_id: "nothing".to_owned() };
    assert_eq!(refused(rig.add_ons.get_add_on(get).await), (Code::NotFound, "ADD_ON_NOT_FOUND".to_owned()));
}
