//! From error codes to tRPC's: the one table.

use freehold_api::Code;

/// One of tRPC's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// `data.code`.
    pub(super) name: &'static str,
    /// `code`, after JSON-RPC.
    pub(super) number: i32,
    /// `data.httpStatus`.
    pub(super) status: u16,
}

const fn said(name: &'static str, number: i32, status: u16) -> Said {
    Said { name, number, status }
}

/// What a code is called in tRPC.
pub(super) const fn of(code: Code) -> Said {
    match code {
        Code::MalformedJson => said("PARSE_ERROR", -32700, 400),
        Code::InvalidRequest
        | Code::TierNotOffered
        | Code::TierExceedsEntitlement
        | Code::ProviderUnknown
        | Code::IdempotencyKeyInvalid => said("BAD_REQUEST", -32600, 400),
        Code::Unauthorized => said("UNAUTHORIZED", -32001, 401),
        Code::Forbidden | Code::EntitlementDenied => said("FORBIDDEN", -32003, 403),
        Code::InstanceNotFound
        | Code::OperationNotFound
        | Code::ReservationNotFound
        | Code::OwnerNotFound
        | Code::NodeNotFound
        | Code::NotFound
        // There is none for what is gone for ever.
        | Code::Gone => said("NOT_FOUND", -32004, 404),
        Code::MethodNotAllowed => said("METHOD_NOT_SUPPORTED", -32005, 405),
        Code::RequestTimeout => said("TIMEOUT", -32008, 408),
        Code::ProvisionInProgress
        | Code::InstanceAlreadyActive
        | Code::InstanceDestroyed
        | Code::NotRoutableYet
        | Code::ProvisionRepairUnavailable
        | Code::ReservationActive
        | Code::ReservationNotReleasable
        | Code::ReservationStatusChanged
        | Code::ProviderResourcesPresent
        // The instance is there, and in the way of another one.
        | Code::ProvisionCompletionPending => said("CONFLICT", -32009, 409),
        Code::PayloadTooLarge => said("PAYLOAD_TOO_LARGE", -32013, 413),
        Code::UnsupportedMediaType => said("UNSUPPORTED_MEDIA_TYPE", -32015, 415),
        Code::IdempotencyKeyReused => said("UNPROCESSABLE_CONTENT", -32022, 422),
        Code::RateLimited => said("TOO_MANY_REQUESTS", -32029, 429),
        Code::InternalError => said("INTERNAL_SERVER_ERROR", -32603, 500),
        Code::NotSupported => said("NOT_IMPLEMENTED", -32603, 501),
        Code::ProviderRejected | Code::ProvisionFailed | Code::InstanceUnreachable => said("BAD_GATEWAY", -32603, 502),
        Code::ProviderUnavailable
        | Code::ProviderCheckUnavailable
        | Code::StoreUnavailable
        | Code::BillingUnavailable
        | Code::IssuerUnavailable => said("SERVICE_UNAVAILABLE", -32603, 503),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tRPC's own table.
    const KNOWN: [Said; 20] = [
        said("PARSE_ERROR", -32700, 400),
        said("BAD_REQUEST", -32600, 400),
        said("UNAUTHORIZED", -32001, 401),
        said("PAYMENT_REQUIRED", -32002, 402),
        said("FORBIDDEN", -32003, 403),
        said("NOT_FOUND", -32004, 404),
        said("METHOD_NOT_SUPPORTED", -32005, 405),
        said("TIMEOUT", -32008, 408),
        said("CONFLICT", -32009, 409),
        said("PRECONDITION_FAILED", -32012, 412),
        said("PAYLOAD_TOO_LARGE", -32013, 413),
        said("UNSUPPORTED_MEDIA_TYPE", -32015, 415),
        said("UNPROCESSABLE_CONTENT", -32022, 422),
        said("PRECONDITION_REQUIRED", -32028, 428),
        said("TOO_MANY_REQUESTS", -32029, 429),
        said("INTERNAL_SERVER_ERROR", -32603, 500),
        said("NOT_IMPLEMENTED", -32603, 501),
        said("BAD_GATEWAY", -32603, 502),
        said("SERVICE_UNAVAILABLE", -32603, 503),
        said("GATEWAY_TIMEOUT", -32603, 504),
    ];

    #[test]
    fn every_code_is_one_of_trpcs_and_keeps_its_status_where_there_is_one() {
        for code in Code::ALL {
            let said = of(*code);
            assert!(KNOWN.contains(&said), "{code}: {said:?}");
            let status = match code {
                Code::Gone => 404,
                Code::ProvisionCompletionPending => 409,
                _ => code.status(),
            };
            assert_eq!(said.status, status, "{code}");
        }
    }

    #[test]
    fn what_users_meet_are_conflicts_and_one_that_is_not_there() {
        for code in Code::ALL.iter().filter(|code| code.user_message().is_some()) {
            let name = if *code == Code::InstanceNotFound { "NOT_FOUND" } else { "CONFLICT" };
            assert_eq!(of(*code).name, name, "{code}");
        }
    }
}
