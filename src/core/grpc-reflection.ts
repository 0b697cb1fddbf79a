// What server reflection answers, v1 and v1alpha, over the descriptors that protobuf-es generated code carries. The two
// versions differ in name only, so one function answers both. Pure: controller and agent serve it on their own transports.
import { type DescFile, type DescService, toBinary } from '@bufbuild/protobuf';
import { nestedTypes } from '@bufbuild/protobuf/reflect';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';

const NOT_FOUND = 5;
const INVALID_ARGUMENT = 3;

/** The question of either version: its `message_request`. */
export type ReflectionQuestion =
  | {
      readonly case: 'listServices' | 'fileByFilename' | 'fileContainingSymbol' | 'allExtensionNumbersOfType';
      readonly value: string;
    }
  | { readonly case: 'fileContainingExtension'; readonly value: object }
  | { readonly case: undefined; readonly value?: undefined };

/** Descriptors of the given services, with everything they refer to. */
export class DescriptorIndex {
  readonly #services: readonly string[];
  readonly #files = new Map<string, DescFile>();
  readonly #symbols = new Map<string, DescFile>();
  readonly #encoded = new Map<string, Uint8Array>();

  constructor(services: readonly DescService[]) {
    this.#services = services.map((service) => service.typeName).sort();
    for (const service of services) this.#addFile(service.file);
  }

  /** Full names of the services, sorted. */
  get services(): readonly string[] {
    return this.#services;
  }

  /** Serialised descriptor of the file that declares a symbol, followed by all it imports; undefined if unknown. */
  fileOfSymbol(symbol: string): Uint8Array[] | undefined {
    return this.#closure(this.#symbols.get(symbol));
  }

  /** As fileOfSymbol, by file name. */
  fileByName(name: string): Uint8Array[] | undefined {
    return this.#closure(this.#files.get(name));
  }

  #addFile(file: DescFile): void {
    const name = file.proto.name;
    if (this.#files.has(name)) return;
    this.#files.set(name, file);
    for (const type of nestedTypes(file)) {
      this.#symbols.set(type.typeName, file);
      if (type.kind !== 'service') continue;
      for (const method of type.methods) this.#symbols.set(`${type.typeName}.${method.name}`, file);
    }
    for (const dependency of file.dependencies) this.#addFile(dependency);
  }

  #closure(file: DescFile | undefined): Uint8Array[] | undefined {
    if (file === undefined) return undefined;
    const found = new Set<DescFile>();
    const visit = (at: DescFile): void => {
      if (found.has(at)) return;
      found.add(at);
      at.dependencies.forEach(visit);
    };
    visit(file);
    return [...found].map((at) => this.#encode(at));
  }

  #encode(file: DescFile): Uint8Array {
    const known = this.#encoded.get(file.proto.name);
    if (known !== undefined) return known;
    const bytes = toBinary(FileDescriptorProtoSchema, file.proto);
    this.#encoded.set(file.proto.name, bytes);
    return bytes;
  }
}

/** The answer to one question of either version, as the init of its `message_response`. */
export function answerReflection(index: DescriptorIndex, question: ReflectionQuestion) {
  switch (question.case) {
    case 'listServices':
      return answers('listServicesResponse', { service: index.services.map((name) => ({ name })) });
    case 'fileByFilename':
      return files(index.fileByName(String(question.value)), `file ${question.value}`);
    case 'fileContainingSymbol':
      return files(index.fileOfSymbol(String(question.value)), `symbol ${question.value}`);
    case 'fileContainingExtension':
    case 'allExtensionNumbersOfType':
      return failed(NOT_FOUND, 'the contract has no extensions');
    default:
      return failed(INVALID_ARGUMENT, 'message_request: is missing or unknown');
  }
}

function answers<Case extends string, Value>(name: Case, value: Value): { readonly case: Case; readonly value: Value } {
  return { case: name, value };
}

function files(found: Uint8Array[] | undefined, what: string) {
  return found === undefined
    ? failed(NOT_FOUND, `${what.slice(0, 200)} isn't known here`)
    : answers('fileDescriptorResponse', { fileDescriptorProto: found });
}

function failed(errorCode: number, errorMessage: string) {
  return answers('errorResponse', { errorCode, errorMessage });
}
