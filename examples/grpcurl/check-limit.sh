#!/bin/sh
# May acme add five users to the 1198 it has?
exec grpcurl -plaintext -d '{"tenant_id": "acme", "service": "entity-management", "limit_check": {"name": "max_users", "amount": 5, "used": 1198}}' "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/CheckEntitlement
