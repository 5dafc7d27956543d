//! Both clouds as their documents say, strict about signatures, dates and nonces: nothing of ours is refused.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod scripted;

use certsyncd::clock::Clock;
use certsyncd::config::{Cds, Cloud, Huawei, HuaweiApi, HuaweiAuth};
use certsyncd::provider::{Client, Payload};
use certsyncd::report::Valid;
use fakecloud::pki::{Leaf, Pki};
use fakecloud::{CdsCertificate, Fakecloud, Fault, Match, What};
use scripted::{limits, plain, provider};

const ID: &str = "scs1554192131150";

fn huawei(cloud: &Fakecloud, auth: HuaweiAuth) -> Huawei {
    Huawei {
        endpoint: cloud.huawei.endpoint().parse().unwrap(),
        iam_endpoint: cloud.huawei.iam_endpoint().parse().unwrap(),
        metadata_endpoint: cloud.huawei.metadata_endpoint().parse().unwrap(),
        region: Some(cloud.huawei.region()),
        project_id: Some(cloud.huawei.project_id()),
        domain_id: Some(cloud.huawei.domain_id()),
        enterprise_project_id: None,
        api: HuaweiApi::Export,
        auth,
    }
}

fn client(cloud: Cloud) -> Client {
    Client::with_limits(&provider(cloud), Clock::system(), limits()).unwrap()
}

fn access_key(cloud: &Fakecloud) -> HuaweiAuth {
    let (access, secret) = (cloud.huawei.access_key(), cloud.huawei.secret_key());
    HuaweiAuth::AccessKey { access_key: plain(&access), secret_key: plain(&secret), security_token: None }
}

fn ways(cloud: &Fakecloud) -> Vec<HuaweiAuth> {
    let temporary = cloud.huawei.temporary();
    vec![
        access_key(cloud),
        HuaweiAuth::AccessKey {
            access_key: plain(&temporary.access_key),
            secret_key: plain(&temporary.secret_key),
            security_token: Some(plain(&temporary.security_token)),
        },
        HuaweiAuth::Password {
            user: plain(&cloud.huawei.user()),
            password: plain(&cloud.huawei.password()),
            domain: cloud.huawei.domain(),
            project: None,
        },
        HuaweiAuth::Token { token: plain(&cloud.huawei.token()) },
        HuaweiAuth::Metadata,
    ]
}

#[tokio::test]
async fn every_call_of_huawei_in_every_way() {
    let (cloud, pki) = (Fakecloud::start().await, Pki::new());
    cloud.huawei.add(ID, pki.issue(Leaf::new(["www.example.com", "example.com"])));
    for auth in ways(&cloud) {
        let client = client(Cloud::Huawei(huawei(&cloud, auth.clone())));
        for _ in 0..3 {
            let fetched = client.fetch(ID).await.unwrap();
            assert!(matches!(fetched.payload, Payload::Pem(pieces) if pieces.len() >= 2));
            let listing = client.list().await.unwrap();
            assert!(listing.complete && listing.certificates[0].names.contains(&"www.example.com".to_owned()), "{listing:?}");
            assert!(client.show(ID).await.unwrap().unwrap().fingerprint.is_some());
        }
        let download = Huawei { api: HuaweiApi::Download, ..huawei(&cloud, auth) };
        let fetched = self::client(Cloud::Huawei(download)).fetch(ID).await.unwrap();
        assert!(matches!(fetched.payload, Payload::Archive(archive) if archive.starts_with(b"PK")));
    }
    assert!(cloud.rejections().is_empty(), "{:?}", cloud.rejections());
}

#[tokio::test]
async fn retries_pass_the_strict_server() {
    let (cloud, pki) = (Fakecloud::start().await, Pki::new());
    cloud.huawei.add(ID, pki.issue(Leaf::new(["www.example.com"])));
    cloud.cds.add("cds-1", CdsCertificate::new(pki.issue(Leaf::new(["api.example.com"]).days(12))));
    for what in [What::status(503, "busy"), What::Half, What::Cut(10), What::Throttle { retry_after: None }] {
        cloud.fault(Fault::new(Match::any(), what.clone()).times(2));
        client(Cloud::Huawei(huawei(&cloud, access_key(&cloud)))).fetch(ID).await.unwrap();
        cloud.fault(Fault::new(Match::any(), what).times(2));
        cds(&cloud).fetch("cds-1").await.unwrap();
    }
    assert!(cloud.rejections().is_empty(), "{:?}", cloud.rejections());
}

#[tokio::test]
async fn wrong_ids_and_missing_permissions() {
    let (cloud, pki) = (Fakecloud::start().await, Pki::new());
    cloud.huawei.add(ID, pki.issue(Leaf::new(["www.example.com"])));
    let client = client(Cloud::Huawei(huawei(&cloud, access_key(&cloud))));
    let error = client.fetch("scs0000000000000").await.err().unwrap();
    assert!(error.is_gone(), "{error:?}");
    assert!(cds(&cloud).fetch("none").await.err().unwrap().is_gone());
    for permission in ["scm:cert:list", "scm:cert:get", "scm:cert:export"] {
        cloud.huawei.withdraw(permission);
    }
    for (error, permission) in [
        (client.list().await.err().unwrap(), "`scm:cert:list`"),
        (client.show(ID).await.err().unwrap(), "`scm:cert:get`"),
        (client.fetch(ID).await.err().unwrap(), "`scm:cert:export`"),
    ] {
        assert_eq!(error.kind(), "forbidden");
        assert!(error.hint().unwrap().contains(permission), "{error:?}");
    }
    cloud.huawei.set_secret_key("rotated");
    for _ in 0..5 {
        assert_eq!(client.list().await.err().unwrap().kind(), "unauthorized");
    }
    assert_eq!(cloud.rejections().iter().filter(|rejection| format!("{rejection:?}").contains("ignature")).count(), 1);
}

fn cds(cloud: &Fakecloud) -> Client {
    client(Cloud::Cds(Cds {
        endpoint: cloud.cds.endpoint().parse().unwrap(),
        access_key: plain(&cloud.cds.access_key()),
        secret_key: plain(&cloud.cds.secret_key()),
    }))
}

#[tokio::test]
async fn every_call_of_cds() {
    let (cloud, pki) = (Fakecloud::start().await, Pki::new());
    cloud.cds.add("cds-1", CdsCertificate::new(pki.issue(Leaf::new(["api.example.com"]).days(12))));
    let client = cds(&cloud);
    for _ in 0..3 {
        let fetched = client.fetch("cds-1").await.unwrap();
        assert_eq!(fetched.valid, Some(Valid::Expiring));
        assert!(matches!(fetched.payload, Payload::Pem(pieces) if pieces.len() == 2));
        assert_eq!(client.list().await.unwrap().certificates[0].names, ["api.example.com"]);
    }
    assert!(cloud.rejections().is_empty(), "{:?}", cloud.rejections());
}
