// Classify a picture's raw pixels with a model file of tledge: classify MODEL.onnx PIXELS
// PIXELS holds height × width × 3 bytes, RGB, row by row, at the size that the file's metadata names.
// g++ -std=c++17 -I$ONNXRUNTIME/include classify.cpp -L$ONNXRUNTIME/lib -lonnxruntime -o classify
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

// The metadata are JSON with ASCII letters only. These two read no more of it than is needed here.
static int64_t number(const std::string& json, const std::string& key) {
    const auto at = json.find("\"" + key + "\":");
    if (at == std::string::npos) throw std::runtime_error("the model takes no pictures");
    return std::stoll(json.substr(at + key.size() + 3));
}

// The texts of a list, escapes (\u00ef) left as they are.
static std::vector<std::string> texts(const std::string& json) {
    std::vector<std::string> found;
    for (size_t at = json.find('"'); at != std::string::npos; at = json.find('"', at)) {
        size_t end = ++at;
        while (json.at(end) != '"') end += json[end] == '\\' ? 2 : 1;
        found.push_back(json.substr(at, end - at));
        at = end + 1;
    }
    return found;
}

int main(int count, char** arguments) try {
    if (count != 3) throw std::runtime_error("type: classify MODEL.onnx PIXELS");
    Ort::Env environment;
    Ort::Session session(environment, arguments[1], Ort::SessionOptions());
    Ort::AllocatorWithDefaultOptions allocator;
    const auto metadata = session.GetModelMetadata();
    const auto entry = [&](const char* key) {
        const auto value = metadata.LookupCustomMetadataMapAllocated(key, allocator);
        return std::string(value ? value.get() : "");
    };
    const auto classes = texts(entry("classes"));
    const std::string preprocess = entry("preprocess");
    const std::vector<int64_t> shape{1, number(preprocess, "height"), number(preprocess, "width"), 3};

    std::ifstream file(arguments[2], std::ios::binary);
    std::vector<uint8_t> pixels{std::istreambuf_iterator<char>(file), {}};
    if (int64_t(pixels.size()) != shape[1] * shape[2] * shape[3])
        throw std::runtime_error("PIXELS must hold height × width × 3 bytes, found " + std::to_string(pixels.size()));

    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto input = Ort::Value::CreateTensor<uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
    const char *given = "image", *made = "probabilities";
    const auto outputs = session.Run(Ort::RunOptions(), &given, &input, 1, &made, 1);
    const float* row = outputs[0].GetTensorData<float>();
    const auto best = std::max_element(row, row + classes.size()) - row;
    std::cout << classes.at(best) << " " << row[best] << "\n";
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
