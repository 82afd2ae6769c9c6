#!/bin/sh
# Three questions at one time; the bad one fails alone.
exec grpcurl -plaintext -d '{"checks": [{"tenant_id": "acme", "service": "reporting"}, {"tenant_id": "no-exports", "service": "reporting", "feature": "exports"}, {"tenant_id": "not a tenant", "service": "reporting"}]}' "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/BatchCheckEntitlement
