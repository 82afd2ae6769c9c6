#!/bin/sh
# May acme use custom reports, and why? The answer lists every step of the decision.
exec grpcurl -plaintext -d '{"tenant_id": "acme", "service": "reporting", "feature": "custom-reports", "explain": true}' "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/CheckEntitlement
