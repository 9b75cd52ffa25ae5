"""The server behind `sam-edge serve` and the folder that `sam-edge site` writes: a page, bundles, engines, annotation.

| file | what |
|---|---|
| `job` | what to serve, checked |
| `default_bundle` | nano's bundle in the cache, for those who name none |
| `hosted_bundle`, `page` | the files that may be read: a bundle's, and the built page's |
| `access`, `guard` | who may ask: host, origin, token; the headers of every response |
| `bodies`, `api_error` | requests of bounded size, checked field by field; one line for every refusal |
| `engine`, `photo_api` | photos encoded and prompts decoded by the Python runtime |
| `photo_queue`, `leases` | photos to annotate, and who has which |
| `annotation_files`, `annotation_record`, `existing_masks` | masks on disk, in SA-1B's format |
| `statistics` | what was annotated, in figures |
| `annotation_session` | photos, records and leases together |
| `queue_api`, `mask_api` | the queue and the figures, and the masks of a photo, as endpoints |
| `application`, `server` | all of it as one ASGI application, and the process that answers |
| `site` | the page and bundles as a static site |

Starlette and uvicorn come with the extra `serve`.
"""
