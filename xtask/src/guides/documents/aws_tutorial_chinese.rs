//! The AWS tutorial in Chinese: without containers and the reference configuration, and with the same lines as the original where it
//! has them.

use super::super::table::Document;
use super::aws_tutorial;

pub(super) const DOCUMENT: Document = Document {
    name: "aws-chinese",
    title: "AWS Secrets Manager, the tutorial in Chinese",
    rows: aws_tutorial::ROWS,
    lines: Some(&[
        (28, 12),
        (46, 29),
        (34, 17),
        (95, 67),
        (114, 78),
        (126, 87),
        (138, 95),
        (163, 120),
        (164, 121),
        (172, 125),
        (183, 133),
        (189, 138),
        (248, 147),
        (256, 153),
        (259, 155),
        (268, 163),
        (274, 168),
    ]),
};
