// Explain a frame with explain.onnx (sise-ort compose BUNDLE -o explain.onnx): one frame in, label and heat map out.
//   explain explain.onnx frame.ppm heat.pgm [PASSES]
// Frames are binary PPM (RGB) or PGM (gray) files of the network's size; normalising happens inside of explain.onnx.
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

static std::string label_of(Ort::Session& session, int64_t index) {
  Ort::AllocatorWithDefaultOptions allocator;
  auto lines = session.GetModelMetadata().LookupCustomMetadataMapAllocated("label_lines", allocator);
  std::istringstream labels(lines ? lines.get() : "");
  std::string label;
  for (int64_t i = 0; i <= index && std::getline(labels, label); ++i) {
  }
  return label.empty() ? "class " + std::to_string(index) : label;
}

int main(int count, char** words) try {
  if (count < 4) throw std::runtime_error("usage: explain explain.onnx frame.ppm heat.pgm [PASSES]");

  // 1. The frame, HWC, as a camera gives it.
  std::ifstream file(words[2], std::ios::binary);
  std::string kind;
  int64_t width = 0, height = 0, white = 0;
  file >> kind >> width >> height >> white;
  file.get();
  const int64_t channels = kind == "P6" ? 3 : 1;
  if (!file || (kind != "P6" && kind != "P5") || white != 255) throw std::runtime_error("no 8-bit PPM or PGM file");
  std::vector<uint8_t> frame(static_cast<size_t>(width * height * channels));
  file.read(reinterpret_cast<char*>(frame.data()), static_cast<std::streamsize>(frame.size()));

  // 2. One run: the top class (-1), μ = 0, and at most so many masks (0: none, negative: all).
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "explain");
  const std::string name = words[1];
  const std::basic_string<ORTCHAR_T> path(name.begin(), name.end());
  Ort::Session session(env, path.c_str(), Ort::SessionOptions{});
  int64_t target = -1, passes = count > 4 ? std::stoll(words[4]) : 64;
  float mu = 0;
  const std::array<int64_t, 3> shape{height, width, channels};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::array<Ort::Value, 4> inputs{
      Ort::Value::CreateTensor<uint8_t>(memory, frame.data(), frame.size(), shape.data(), shape.size()),
      Ort::Value::CreateTensor<int64_t>(memory, &target, 1, shape.data(), 0),  // scalars have no dimensions
      Ort::Value::CreateTensor<float>(memory, &mu, 1, shape.data(), 0),
      Ort::Value::CreateTensor<int64_t>(memory, &passes, 1, shape.data(), 0)};
  const std::array<const char*, 4> given{"image", "target", "mu", "passes"};
  const std::array<const char*, 3> wanted{"heatmap", "class", "confidence"};
  auto found = session.Run(Ort::RunOptions{nullptr}, given.data(), inputs.data(), 4, wanted.data(), 3);

  // 3. The answer, and the heat map as a gray picture.
  const int64_t index = found[1].GetTensorData<int64_t>()[0];
  std::cout << label_of(session, index) << " " << found[2].GetTensorData<float>()[index] << std::endl;
  const float* heat = found[0].GetTensorData<float>();
  std::ofstream out(words[3], std::ios::binary);
  out << "P5\n" << width << " " << height << "\n255\n";
  for (int64_t i = 0; i < width * height; ++i) out.put(static_cast<char>(std::lround(255 * heat[i])));
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
