//! The documents.

mod aws_tutorial;
mod aws_tutorial_chinese;
mod kms_guide_2020;
mod minio_aws_2023;
mod minio_aws_older;

use super::table::Document;

/// All of them.
pub(super) const ALL: &[&Document] = &[
    &kms_guide_2020::DOCUMENT,
    &minio_aws_older::DOCUMENT,
    &minio_aws_2023::LOCAL,
    &minio_aws_2023::PRODUCTION,
    &aws_tutorial::DOCUMENT,
    &aws_tutorial_chinese::DOCUMENT,
];

/// A configuration among those that the tests of `kes-config` read: texts of the documents without their remarks, mistakes included.
macro_rules! configuration {
    ($name:literal) => {
        include_str!(concat!("../../../../crates/config/tests/it/", $name))
    };
}
use configuration;

/// In place of a console of AWS: a user who may do what the document's policy, in `policy.json`, allows. Its keys are `ACCESS_KEY` and
/// `SECRET_KEY` from then on.
const AWS_USER: &str = "\
export AWS_ACCESS_KEY_ID=nobody AWS_SECRET_ACCESS_KEY=nothing AWS_DEFAULT_REGION=us-east-1
aws iam create-user --user-name kes >/dev/null
aws iam put-user-policy --user-name kes --policy-name kes --policy-document file://policy.json
set -- $(aws iam create-access-key --user-name kes --query 'AccessKey.[AccessKeyId,SecretAccessKey]' --output text)
export ACCESS_KEY=$1 SECRET_KEY=$2
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION";

/// Why.
const AWS_USER_WHY: &str = "what is done in a console is done by the command of AWS";

/// The policy of an AWS user, of which only the names of its statements differ.
macro_rules! iam_policy {
    ($secrets:literal, $keys:literal) => {
        concat!(
            "{ \"Version\": \"2012-10-17\", \"Statement\": [\n  { \"Sid\": \"",
            $secrets,
            "\", \"Effect\": \"Allow\", \"Resource\": \"*\", \"Action\": [\n    \"secretsmanager:CreateSecret\", ",
            "\"secretsmanager:DeleteSecret\", \"secretsmanager:GetSecretValue\", \"secretsmanager:ListSecrets\" ] },\n",
            "  { \"Sid\": \"",
            $keys,
            "\", \"Effect\": \"Allow\", \"Resource\": \"*\", \"Action\": [\n    \"kms:Decrypt\", \"kms:DescribeKey\", ",
            "\"kms:Encrypt\" ] } ] }\n"
        )
    };
}
use iam_policy;
