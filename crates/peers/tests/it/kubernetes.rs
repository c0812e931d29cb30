use kes_peers::{Kubernetes, Vault};
use serde_json::{Value, json};

#[test]
fn secrets_are_created_once_and_immutable_ones_stay_as_they_are() {
    let kubernetes = Kubernetes::start().unwrap();
    let admin = kubernetes.admin_token();
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({ "metadata": { "name": "k1" }, "immutable": true, "data": { "v": "aGk=" } });
    assert_eq!(
        kubernetes.call("POST", secrets, admin, Some(&secret)).unwrap().0,
        201
    );
    let (status, answer) = kubernetes.call("POST", secrets, admin, Some(&secret)).unwrap();
    assert_eq!((status, &answer["reason"]), (409, &json!("AlreadyExists")));
    let other = json!({ "metadata": { "name": "k1" }, "immutable": true, "data": { "v": "aG8=" } });
    assert_eq!(
        kubernetes
            .call("PUT", &format!("{secrets}/k1"), admin, Some(&other))
            .unwrap()
            .0,
        422
    );
    assert_eq!(
        kubernetes
            .call("GET", &format!("{secrets}/k2"), admin, None)
            .unwrap()
            .0,
        404
    );
    assert_eq!(kubernetes.call("GET", secrets, "nobody", None).unwrap().0, 401);
    // A service account may do what its role says.
    kubernetes
        .service_account("kes", "system:auth-delegator")
        .unwrap();
    let token = kubernetes.token("kes").unwrap();
    assert_eq!(kubernetes.call("GET", secrets, &token, None).unwrap().0, 403);
}

#[test]
fn vault_believes_the_tokens_of_its_service_accounts() {
    let (kubernetes, vault) = (Kubernetes::start().unwrap(), Vault::start().unwrap());
    kubernetes
        .service_account("kes", "system:auth-delegator")
        .unwrap();
    let ca = std::fs::read_to_string(kubernetes.ca()).unwrap();
    vault
        .root("POST", "sys/auth/kubernetes", json!({ "type": "kubernetes" }))
        .unwrap();
    let config = json!({
        "kubernetes_host": kubernetes.endpoint(), "kubernetes_ca_cert": ca, "disable_local_ca_jwt": true,
    });
    vault.root("POST", "auth/kubernetes/config", config).unwrap();
    let role = json!({
        "bound_service_account_names": "kes", "bound_service_account_namespaces": "default",
        "token_policies": "kes", "token_ttl": "1m",
    });
    vault.root("POST", "auth/kubernetes/role/kes", role).unwrap();
    let token = kubernetes.token("kes").unwrap();
    let login = |role: &str, token: &str| -> (u16, Value) {
        let body = json!({ "role": role, "jwt": token });
        vault
            .call("PUT", "auth/kubernetes/login", "", None, Some(&body))
            .unwrap()
    };
    let (status, answer) = login("kes", &token);
    assert_eq!(
        (status, &answer["auth"]["lease_duration"]),
        (200, &json!(60)),
        "{answer}"
    );
    assert_eq!(login("other", &token).0, 400);
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(login("kes", &format!("{signed}.AAAA")).0, 403);
}
