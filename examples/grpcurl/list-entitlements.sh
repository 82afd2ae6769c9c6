#!/bin/sh
# Everything that the school is entitled to.
exec grpcurl -plaintext -d '{"tenant_id": "school:12"}' "${TESSERA_DATA_ADDR:-127.0.0.1:7400}" tessera.v1.EntitlementService/ListEntitlements
